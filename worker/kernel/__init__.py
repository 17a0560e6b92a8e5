"""The kernel of a node, as the worker asks it.

`model` (what a look shows), `api` (what is asked of any kernel), `rtnetlink` (the real one), `socket`
(netlink framing) and `linkmsg` (decoding link messages).
"""
