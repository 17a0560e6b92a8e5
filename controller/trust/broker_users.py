"""`BrokerUsers`: keeps the nodes' users of Redis as the keys that are believed say."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import select

from contract.queues import alive_key, node_queue
from contract.runtime import acl
from contract.runtime.probe import CommandConnection
from controller.db.engine import Database
from controller.db.key_models import NodeKey
from controller.db.models import Node
from controller.db.states import NodeKeyState
from controller.health import faults
from controller.health.monitor import Monitor

log = structlog.get_logger(__name__)

_PERIOD_SECONDS: Final = 2.0
_BATCH: Final = 500
"""Users per round trip: Redis takes some 20 us for each, and answers nobody else meanwhile.

To read one takes it a hundred times as long (7.0): those of 2,000 nodes would hold it up for seconds. So
users are set again rather than compared, and not saved in Redis' aclfile (`ACL SAVE`).
"""
_UNCHANGED: Final = 100
"""Users per step that are set again though nothing changed here: somebody may have changed them there."""
_LACKS_IT: Final = "does not exist"
"""In Redis' own words about a password that a user should lose and has not."""


class _User(NamedTuple):
    password: str
    """SHA-256, in hexadecimal."""
    rules: Sequence[str]


class BrokerUsers:
    """Sets and removes nodes' users in Redis, again and again. Not thread-safe.

    Users of other names are never touched, nor those of nodes that this database never knew.
    """

    def __init__(self, database: Database, connection: CommandConnection, monitor: Monitor) -> None:
        self._database = database
        self._connection = connection
        self._monitor = monitor
        self._known: dict[str, _User] = {}
        """By name, as they were set last."""
        self._next = 0
        """Of the users in order, the first one to be set again."""

    def step(self) -> float:
        """Set and remove users; return the seconds until the next step."""
        try:
            with self._monitor.attempt(faults.of_broker_users):
                self._keep(self._wanted())
        except Exception as error:  # noqa: BLE001 -- the monitor has it
            log.debug("the broker's users were not set", error=str(error))
        return _PERIOD_SECONDS

    def _keep(self, wanted: Mapping[str, _User]) -> None:
        (names,) = self._run([("ACL", "USERS")])
        listed = {name.decode() if isinstance(name, bytes) else str(name) for name in names}
        present = {name for name in listed if acl.node_of(name) is not None}
        self._remove(present - wanted.keys())
        self._known = {name: user for name, user in self._known.items() if name in wanted}
        changed = [
            name
            for name, user in wanted.items()
            if name not in present or self._known.get(name) != user
        ]
        others = sorted(wanted)[self._next : self._next + _UNCHANGED]
        self._next = self._next + _UNCHANGED if self._next + _UNCHANGED < len(wanted) else 0
        due = list(dict.fromkeys([*changed, *others]))
        for start in range(0, len(due), _BATCH):
            self._set({name: wanted[name] for name in due[start : start + _BATCH]}, present)

    def _remove(self, names: Collection[str]) -> None:
        """Remove users of nodes that left or are not believed, and then what they may have put into Redis."""
        if not names:
            return
        with self._database.read() as session:
            known = session.scalars(select(Node.id)).all()
        for node_id in known:
            name = acl.node_user(node_id)
            if name in names:
                keys = (("DEL", key) for key in (node_queue(node_id), alive_key(node_id)))
                self._run([("ACL", "DELUSER", name), *keys])
                log.info("a node's user of the broker is removed", user=name)

    def _set(self, users: Mapping[str, _User], present: Collection[str]) -> None:
        answers = self._run(
            # To take the password away first fails, and changes nothing, if it is another.
            [
                ("ACL", "SETUSER", name, f"!{user.password}", *user.rules)
                for name, user in users.items()
            ],
            stop=False,
        )
        again: list[Sequence[str]] = []
        for (name, user), answer in zip(users.items(), answers, strict=True):
            if isinstance(answer, Exception):
                if _LACKS_IT not in str(answer):
                    raise answer
                # Connections with the former password end with the user.
                again += [("ACL", "DELUSER", name), ("ACL", "SETUSER", name, *user.rules)]
                log.info("a node's user of the broker is made", user=name, replaced=name in present)
        self._run(again)
        self._known |= users

    def _wanted(self) -> Mapping[str, _User]:
        """Return the users of all nodes whose key is believed, by name."""
        query = (
            select(NodeKey.node_id, NodeKey.broker_password)
            .join(Node, Node.id == NodeKey.node_id)
            .where(
                Node.gone_at.is_(None),
                NodeKey.state == NodeKeyState.TRUSTED,
                NodeKey.broker_password.is_not(None),
            )
        )
        with self._database.read() as session:
            rows = session.execute(query).all()
        return {
            acl.node_user(node_id): _User(password, tuple(acl.of_node(node_id, password).split()))
            for node_id, password in rows
            if password is not None
        }

    def _run(self, commands: Sequence[Sequence[str]], *, stop: bool = True) -> list[Any]:
        """Run commands; `stop`: raise the first error, instead of returning it."""
        with self._connection.pipeline() as pipeline:
            if pipeline is None:
                return []
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=stop)
