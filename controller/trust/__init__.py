"""Whose messages are believed: keys of controllers and nodes, join tokens, and opening what arrives.

`own_key` is the controllers' private key, in a file. `store` keeps public keys and join tokens, and
`introductions` decides about the key that a node introduces. `keyring` is what a process knows of them while
it runs; `reception` opens messages and hands them on.
"""
