"""Whose messages are believed: keys of controllers and nodes, join tokens, and opening what arrives.

`own_key` is the controllers' private key, in a file, and `given_token` a join token in one. `store` keeps
public keys and join tokens; `introductions` decides about the key that a node introduces, `node_rotation`
asks for another one, and `departed` ends the keys of nodes that left. `keyring` is what a process knows of
them while it runs; `reception` opens messages and hands them on, as many of each node as its `quota` allows;
and `broker_users` gives each believed node a user of Redis.
"""
