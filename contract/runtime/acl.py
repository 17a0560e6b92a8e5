"""The users of the broker, Redis: their names, their passwords, and what each may do (`ACL SETUSER`).

Redis stores the SHA-256 of a password, and so do we: it has 256 random bits, and cannot be guessed from that.
Needs Redis 7 or Valkey: selectors keep the rights of one key from counting for another.
"""

import hashlib
import re
from typing import Final

from contract.queues import CONTROLLER_QUEUE, PROBE_KEY, alive_key, node_queue

CONTROLLER_USER: Final = "controller"
JOIN_USER: Final = "join"
"""Of workers until they have a user of their own."""
_NODE_USER: Final = re.compile(r"node-([0-9a-z]{25})")

_NOBODY: Final = "resetpass resetkeys resetchannels clearselectors -@all"
_CONNECTION: Final = "+ping +time +multi +exec +discard +client|setname"
"""What the client of Redis says on each connection, and what touches no key.

Not SELECT, which it says for another database than 0: each of Redis' databases could be filled.
"""
_ADDS: Final = f"(%W~{CONTROLLER_QUEUE} +lpush +llen)"
"""Adds messages for the controllers, and counts those that wait."""


def node_user(node_id: str) -> str:
    """Return the name of a node's user."""
    return f"node-{node_id}"


def node_of(user: str) -> str | None:
    """Return the id of the node whose user this is; None: it is no node's."""
    found = _NODE_USER.fullmatch(user)
    return None if found is None else found[1]


def digest(password: str) -> str:
    """Return the SHA-256 of a password in hexadecimal, as Redis stores it."""
    return hashlib.sha256(password.encode()).hexdigest()


def of_controller(password: str) -> str:
    """Return the rules of the controllers' user; `password`: its digest.

    Who may set users may do anything in Redis. Who has the controllers' key commands every node anyway.
    """
    keys = f"~{CONTROLLER_QUEUE} ~{PROBE_KEY} ~node.*"
    messages = "+lpush +brpop +rpop +llen +del +expire +getrange"
    users = "+acl|users +acl|setuser +acl|deluser"
    return _rules(password, f"+info {keys} {messages} {users}")


def of_join(password: str) -> str:
    """Return the rules of the user by which a worker without one of its own introduces its key."""
    return _rules(password, _ADDS)


def of_node(node_id: str, password: str) -> str:
    """Return the rules of a node's user: its queue, its sign of life, and messages to the controllers."""
    queue = f"(~{node_queue(node_id)} +brpop +lpush +llen +expire)"
    sign = f"(%W~{alive_key(node_id)} +set)"
    return _rules(password, f"{queue} {sign} {_ADDS}")


def line(user: str, rules: str) -> str:
    """Return the line of an aclfile that defines a user."""
    return f"user {user} {rules}\n"


NO_DEFAULT: Final = "user default off\n"
"""The line that lets nobody in without a login."""


def _rules(password: str, rights: str) -> str:
    return f"on {_NOBODY} #{password} {_CONNECTION} {rights}"
