"""Keys of tests, and messages signed by them: the controllers' to a worker, a worker's to the controllers."""

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from contract.messages import ReconcileRequest
from contract.queues import RECONCILE_TASK
from contract.runtime.files import create
from contract.signing.envelope import (
    CONTROLLERS,
    KnownKey,
    Opener,
    Signer,
    node_address,
)
from contract.signing.join import JoinToken
from contract.signing.keys import PublicKey, SigningKey
from contract.signing.replays import Replays
from controller.db.engine import Database
from controller.db.key_models import NodeKey
from controller.db.states import NodeKeyState
from controller.trust.keyring import Keyring

Payload = TypeVar("Payload", bound=BaseModel)


def key_of(name: str) -> SigningKey:
    """A key that is the same in each process: everybody can make it."""
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


CONTROLLERS_KEY = key_of("controllers")
"""Of the cluster of tests: of fake controllers, and of real ones that are given its file."""

JOIN_TOKEN = JoinToken(CONTROLLERS_KEY.public, key_of("join token"))
OTHER_JOIN_TOKEN = JoinToken(key_of("other controllers").public, key_of("join token"))
"""Of a cluster that is not ours."""


@cache
def controllers() -> Signer:
    """Seals as the controllers do."""
    return Signer(CONTROLLERS_KEY, CONTROLLERS)


@cache
def worker(node_id: str) -> Signer:
    """Seals as the worker of a node does whose key is `key_of(node_id)`."""
    return Signer(key_of(node_id), node_address(node_id))


def keyring(database: Database) -> Keyring:
    """What a controller with `CONTROLLERS_KEY` knows of keys."""
    return Keyring(database, Path("no such file"), CONTROLLERS_KEY)


def pin(database: Database, *node_ids: str) -> None:
    """Let the controllers believe the keys of these nodes' workers, `key_of(node_id)`."""
    with database.write() as session:
        for node_id in node_ids:
            key = key_of(node_id).public
            session.merge(
                NodeKey(
                    id=key.id,
                    node_id=node_id,
                    public_key=key.text,
                    state=NodeKeyState.TRUSTED,
                    origin="pinned by a test",
                    created_at=datetime.now(UTC),
                    decided_at=datetime.now(UTC),
                )
            )


def request_text(request: ReconcileRequest) -> str:
    """A request as the argument of its task."""
    audience = node_address(request.node_id)
    return controllers().seal(request.model_dump_json(), audience=audience, task=RECONCILE_TASK)


def message_text(task: str, message: BaseModel) -> str:
    """A worker's message (with a `node_id`) as the argument of its task."""
    node_id = str(message.node_id)  # type: ignore[attr-defined]
    return worker(node_id).seal(message.model_dump_json(), audience=CONTROLLERS, task=task)


def opened(text: object, task: str, model: type[Payload], key: PublicKey, owner: str) -> Payload:
    """Open a message that must be signed by a key, for its owner; any number of times."""
    header: dict[str, str] = json.loads(str(text).split(".", 3)[3].partition("\n")[0])
    me = header["audience"] if owner == CONTROLLERS else CONTROLLERS
    known = {key.id: KnownKey(key, owner)}
    return (
        Opener(me=me, lookup=known.get, replays=Replays())
        .open(text, task, model, once=False)
        .payload
    )


def request_of(text: object) -> ReconcileRequest:
    """Open a request of controllers that have `CONTROLLERS_KEY`."""
    return opened(text, RECONCILE_TASK, ReconcileRequest, CONTROLLERS_KEY.public, CONTROLLERS)


def message_of(text: object, task: str, model: type[Payload], node_id: str) -> Payload:
    """Open a message of a worker that has the key `key_of(node_id)`."""
    return opened(text, task, model, key_of(node_id).public, node_address(node_id))


def give_key(path: Path, key: SigningKey) -> Path:
    """Write a key's file, unless it is there; return its path."""
    if not path.exists():
        create(path, key.pem())
    return path


def give_worker(journal: Path, node_id: str) -> dict[str, str]:
    """Give the worker of this journal the key `key_of(node_id)`; return settings, to believe ours."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    give_key(journal.with_name("node.key"), key_of(node_id))
    return {"CONTROLLER_KEY": CONTROLLERS_KEY.public.text}
