"""The kernel of a node, as the worker asks it.

`model` (what a look shows), `api` (the port: what is asked of any kernel), `rtnetlink` (the real one),
`requests` (encoding its requests), `linkmsg` (decoding its messages), `socket` (netlink framing) and
`statistics` (looks and errors, counted).
"""
