"""Keys: made once, pinned by a join token, shown to a person, revoked and rotated."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from contract.messages import Hello, Introduction, ReconcileReport
from contract.queues import HELLO_TASK, REPORT_TASK
from contract.runtime.broker import MEMORY_BROKER, celery_app
from contract.runtime.errors import OperatorError
from contract.runtime.key_file import make_key, read_key
from contract.runtime.probe import CommandConnection
from contract.runtime.refusals import Refusals
from contract.signing.envelope import CONTROLLERS, Opened, Signer, node_address
from contract.signing.join import JoinToken, change_key
from contract.signing.keys import PublicKey, SigningKey
from contract.signing.refusals import Reason
from contract.signing.succession import follow
from contract.verdicts import Stage
from controller.access.store import By
from controller.cli.commands import app
from controller.db.engine import Database, open_database
from controller.db.key_models import NodeKey
from controller.db.models import Cluster, Node
from controller.db.states import ControllerKeyState, NodeKeyState
from controller.health.live import Health
from controller.leadership.sqlite_lock import only_one
from controller.trust import own_key, store
from controller.trust.broker_users import BrokerUsers
from controller.trust.departed import Departed
from controller.trust.introductions import introduce
from controller.trust.keyring import Keyring
from controller.trust.reception import Reception
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import entry, report
from tests.signed import CONTROLLERS_KEY, JOIN_TOKEN, give_key, key_of, keyring, pin
from tests.stored import audit, contents, node_row, put, wipe

ONE, TWO = swarm_id("one"), swarm_id("two")
ANN = By("ann", None, START)


class Door:
    """A controller's reception of Hellos."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.refused = Refusals()
        self.keys = keyring(database)
        self.believed: list[Opened[Hello]] = []
        self.sent = ""
        """The newest Hello."""
        self.reception = Reception(database, self.keys, refused=self.refused, utcnow=clock)
        put(database)
        with database.write() as session:
            store.create_join_token(session, JOIN_TOKEN.public, ANN, None)

    def hello(
        self,
        key: SigningKey,
        node_id: str = ONE,
        *,
        token: JoinToken | None = None,
        previous: SigningKey | None = None,
        joins_as: str | None = None,
        password: str | None = None,
    ) -> Reason | None:
        """Let a worker introduce its key; return why that is refused."""
        introduction = Introduction(
            key=key.public.text,
            join=None if token is None else token.prove(joins_as or node_id, key.public),
            change=None if previous is None else change_key(previous, node_id, key.public),
        )
        message = Hello(
            node_id=node_id,
            worker_version="1",
            at=self.clock(),
            reason="x",
            introduction=introduction,
            broker_password=password,
        )
        signer = Signer(key, node_address(node_id), now=self.clock)
        before = len(self.believed), dict(self.refused.counts)
        self.clock.advance(2)
        self.sent = signer.seal(message.model_dump_json(), audience=CONTROLLERS, task=HELLO_TASK)
        self.reception.hello(self.believed.append)(self.sent)
        if len(self.believed) > before[0]:
            return None
        (reason,) = [
            reason
            for reason, count in self.refused.counts.items()
            if count > before[1].get(reason, 0)
        ]
        return reason

    def states(self, node_id: str = ONE) -> dict[str, NodeKeyState]:
        """Key id to state, of a node."""
        with self.database.read() as session:
            return {row.id: row.state for row in store.node_keys(session, node_id)}


@pytest.fixture
def door(database: Database, clock: Clock) -> Door:
    return Door(database, clock)


A, B, C = (key_of(f"a key {letter}") for letter in "abc")


def test_a_first_key_is_pinned_by_a_join_token_and_recorded(door: Door, database: Database) -> None:
    assert door.hello(A, token=JOIN_TOKEN) is None
    assert door.states() == {A.public.id: NodeKeyState.TRUSTED}
    assert door.hello(A, token=JOIN_TOKEN) is None, "and from then on it is believed"
    (row,) = [row for row in audit(database) if row.stage is Stage.KEY_TRUSTED]
    assert A.public.id in row.reason
    assert JOIN_TOKEN.public.id in row.reason
    with database.read() as session:
        (token,) = store.join_tokens(session, revoked=False)
        assert token.last_used_at is not None


def test_workers_that_were_there_before_the_first_reading_of_the_swarm_are_no_fault(
    door: Door, database: Database
) -> None:
    """As when all is installed at once: they come again."""
    wipe(database)
    with database.write() as session:
        store.create_join_token(session, JOIN_TOKEN.public, ANN, None)
    with pytest.raises(ValueError, match="not enough values"):
        door.hello(A, token=JOIN_TOKEN)
    assert door.refused.counts == {}
    put(database)
    assert door.hello(A, token=JOIN_TOKEN) is None


def test_a_second_key_is_not_pinned_by_a_join_token(door: Door) -> None:
    door.hello(A, token=JOIN_TOKEN)
    assert door.hello(B, token=JOIN_TOKEN) is Reason.UNTRUSTED_KEY
    assert door.states() == {A.public.id: NodeKeyState.TRUSTED, B.public.id: NodeKeyState.PENDING}
    assert door.hello(A) is None, "the first is believed as before"


@pytest.mark.parametrize("fault", ["none", "unknown", "for another node", "revoked", "expired"])
def test_a_key_without_a_valid_join_token_waits_for_a_person(
    door: Door, database: Database, fault: str
) -> None:
    token: JoinToken | None = JOIN_TOKEN
    if fault == "none":
        token = None
    elif fault == "unknown":
        token = JoinToken.create(CONTROLLERS_KEY.public)
    elif fault == "revoked":
        with database.write() as session:
            store.revoke_join_token(session, JOIN_TOKEN.public.id, ANN)
    elif fault == "expired":
        token = JoinToken.create(CONTROLLERS_KEY.public)
        with database.write() as session:
            store.create_join_token(session, token.public, ANN, START - timedelta(seconds=1))
    joins_as = TWO if fault == "for another node" else None
    assert door.hello(A, token=token, joins_as=joins_as) is Reason.UNTRUSTED_KEY
    assert door.hello(A) is Reason.UNTRUSTED_KEY
    assert door.states() == {A.public.id: NodeKeyState.PENDING}
    with database.write() as session:
        store.trust(session, session.get_one(Node, ONE), A.public.id, ANN)
    door.keys.refresh()
    assert door.hello(A) is None
    assert [row.actor for row in audit(database) if row.stage is Stage.KEY_TRUSTED] == ["ann"]


def test_pending_keys_are_few_and_change_nothing_else(door: Door, database: Database) -> None:
    for number in range(9):
        door.hello(key_of(f"flood {number}"))
    assert list(door.states().values()) == [NodeKeyState.PENDING] * store.MAX_PENDING
    before = contents(database)
    for number in range(200):
        door.clock.advance(-2)
        assert door.hello(key_of(f"more {number}")) is Reason.UNTRUSTED_KEY
        assert door.hello(key_of(f"more {number}"), swarm_id("nosuch")) is Reason.UNTRUSTED_KEY
    assert contents(database) == before


def test_of_a_flood_of_made_up_keys_few_are_looked_at_in_a_second(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a transaction that writes."""
    looked = 0

    def counting(*arguments: Any) -> NodeKeyState | None:
        nonlocal looked
        looked += 1
        return introduce(*arguments)

    monkeypatch.setattr("controller.trust.reception.introduce", counting)
    for number in range(200):
        door.clock.advance(-2)
        door.hello(key_of(f"flood {number}"), swarm_id("nosuch"))
    assert looked == 50
    assert door.hello(key_of("a"), token=JOIN_TOKEN) is None, "two seconds later"


def test_a_key_with_a_join_token_waits_in_the_place_of_one_that_anybody_made_up(door: Door) -> None:
    """As of a node that was set up again: who writes to the broker has no token."""
    door.hello(A, token=JOIN_TOKEN)
    made_up = [key_of(f"made up {number}") for number in range(store.MAX_PENDING)]
    for key in made_up:
        door.hello(key)
    assert door.hello(B, token=JOIN_TOKEN, joins_as=TWO) is Reason.UNTRUSTED_KEY
    assert B.public.id not in door.states(), "a proof for another node is none"
    assert door.hello(B, token=JOIN_TOKEN) is Reason.UNTRUSTED_KEY
    waiting = door.states().keys() - {A.public.id}
    assert waiting == {B.public.id, *(key.public.id for key in made_up[1:])}
    with door.database.read() as session:
        assert "with join token" in session.get_one(NodeKey, B.public.id).origin
    for key in (C, key_of("d"), key_of("e")):
        door.hello(key, token=JOIN_TOKEN)
    for key in made_up:
        door.hello(key)
    kept = door.states().keys() - {A.public.id}
    assert kept == {key.public.id for key in (B, C, key_of("d"))}, "and none of these gives way"


def test_a_person_trusts_a_key_by_its_text_though_made_up_ones_leave_no_room(
    door: Door, database: Database
) -> None:
    """Anybody who writes to the broker can show made-up keys before the node that was set up again does."""
    door.hello(A, token=JOIN_TOKEN)
    for number in range(store.MAX_PENDING):
        door.hello(key_of(f"made up {number}"))
    assert door.hello(B) is Reason.UNTRUSTED_KEY
    with database.write() as session:
        one = session.get_one(Node, ONE)
        row = store.trust(session, one, B.public.text, ANN)
        assert (row.id, row.state) == (B.public.id, NodeKeyState.TRUSTED)
        with pytest.raises(store.KeyStateError, match="trusted already"):
            store.trust(session, one, B.public.text, ANN)
        for text in ("made up", B.public.text[:-1], "-" * 43, "é" * 43, "0" * 64):
            with pytest.raises(store.NoKeyError, match="neither the id of a key nor"):
                store.trust(session, one, text, ANN)
        with pytest.raises(store.NoKeyError, match="has shown no key"):
            store.trust(session, session.get_one(Node, TWO), B.public.text, ANN)
    door.keys.refresh()
    assert door.hello(B) is None
    assert door.states()[A.public.id] is NodeKeyState.REVOKED
    rows = [row.reason for row in audit(database) if row.stage is Stage.KEY_TRUSTED]
    assert rows[-1] == f"key {B.public.id} of one: trusted by ann"


def test_what_another_controller_refuses_before_it_knows_of_a_key_is_not_lost(
    door: Door, database: Database
) -> None:
    """A person trusted the key at another controller; the leader reads keys every few seconds."""
    door.hello(A)
    with database.write() as session:
        store.trust(session, session.get_one(Node, ONE), A.public.id, ANN)
    reports: list[Opened[ReconcileReport]] = []
    take = door.reception.handler(REPORT_TASK, ReconcileReport, reports.append)
    signer, entries = Signer(A, node_address(ONE), now=door.clock), [entry(1)]

    def send() -> None:
        told = report(entries=entries, journal_id=uuid4()).model_dump_json()
        take(signer.seal(told, audience=CONTROLLERS, task=REPORT_TASK))

    send()
    assert reports == []
    assert sum(door.refused.counts.values()) == 2
    door.keys.step()
    send()
    assert [one.payload.entries for one in reports] == [tuple(entries)], "its journal has it still"
    assert door.hello(A) is None, "and a Hello is believed at once"


def leave(door: Door, seconds: float) -> None:
    """Let node one leave the Swarm, and time pass."""
    put(door.database, snapshot("two"), door.clock())
    door.clock.advance(seconds)
    Departed(door.database).step(door.clock())
    door.keys.refresh()


def test_the_key_of_a_node_that_left_is_believed_for_an_hour_at_most(
    door: Door, database: Database
) -> None:
    door.hello(A, token=JOIN_TOKEN)
    door.hello(B)
    leave(door, 3600)
    assert door.states()[A.public.id] is NodeKeyState.TRUSTED, "a reading may have missed it"
    leave(door, 2)
    assert door.states() == {}, "nor do keys wait that nobody vouched for"
    (row,) = [row for row in audit(database) if row.stage is Stage.KEY_REVOKED]
    assert (row.actor, row.reason) == (
        "controller", f"key {A.public.id} of one: its node left the Swarm",
    )  # fmt: skip
    assert door.hello(A) is Reason.UNTRUSTED_KEY


@pytest.mark.parametrize("again", [ONE, TWO], ids=["its id", "another id"])
def test_a_node_that_left_long_ago_joins_as_for_the_first_time(door: Door, again: str) -> None:
    door.hello(A, token=JOIN_TOKEN)
    leave(door, 4000)
    put(door.database, snapshot("one", "two"), door.clock())
    assert door.hello(A, again) is Reason.UNTRUSTED_KEY
    assert door.hello(A, again, token=JOIN_TOKEN) is None
    assert door.states(again) == {A.public.id: NodeKeyState.TRUSTED}


def test_a_revoked_key_does_not_come_back_when_its_node_leaves(
    door: Door, database: Database
) -> None:
    door.hello(A, token=JOIN_TOKEN)
    with database.write() as session:
        store.revoke(session, session.get_one(Node, ONE), None, ANN)
    leave(door, 4000)
    put(database, snapshot("one", "two"), door.clock())
    assert door.hello(A, token=JOIN_TOKEN) is Reason.REVOKED_KEY
    assert door.hello(A, TWO, token=JOIN_TOKEN) is Reason.REVOKED_KEY


def test_a_revoked_key_is_refused_and_does_not_come_back_by_a_token(
    door: Door, database: Database
) -> None:
    door.hello(A, token=JOIN_TOKEN)
    with database.write() as session:
        store.revoke(session, session.get_one(Node, ONE), None, ANN)
    door.keys.refresh()
    assert door.hello(A, token=JOIN_TOKEN) is Reason.REVOKED_KEY
    assert door.hello(B, token=JOIN_TOKEN) is Reason.UNTRUSTED_KEY, "a person decides from now on"


def test_a_node_rotates_its_key_by_its_key_before(door: Door) -> None:
    door.hello(A, token=JOIN_TOKEN)
    door.clock.advance(600)
    assert door.hello(B, previous=C) is Reason.UNTRUSTED_KEY
    assert door.hello(B, previous=A) is None
    assert door.states() == {A.public.id: NodeKeyState.REVOKED, B.public.id: NodeKeyState.TRUSTED}
    assert door.hello(A) is Reason.REVOKED_KEY
    assert node_row(door.database).audit_spent == 2, "both rows are of what it may cause"


def test_a_node_rotates_its_key_every_ten_minutes_at_most(door: Door, database: Database) -> None:
    """The owner of a node could else fill the database, and the audit trail, by two rows a key."""
    door.hello(A, token=JOIN_TOKEN)
    keys = [key_of(f"the next, {number}") for number in range(3)]
    for key in keys:
        assert door.hello(key, previous=A) is Reason.UNTRUSTED_KEY
    assert door.hello(A) is None, "which is believed meanwhile"
    assert len([row for row in audit(database) if row.stage is Stage.KEY_TRUSTED]) == 1
    door.clock.advance(600)
    assert door.hello(keys[0], previous=A) is None, "it says so again and again"
    assert door.hello(keys[1], previous=keys[0]) is Reason.UNTRUSTED_KEY
    assert door.states()[keys[0].public.id] is NodeKeyState.TRUSTED


def test_a_key_belongs_to_one_node(door: Door) -> None:
    door.hello(A, token=JOIN_TOKEN)
    assert door.hello(A, TWO, token=JOIN_TOKEN) is not None
    assert door.states(TWO) == {}


def test_a_node_that_joined_the_swarm_again_has_its_key_with_a_token(
    door: Door, database: Database
) -> None:
    door.hello(A, token=JOIN_TOKEN)
    put(database, snapshot("two"))
    assert door.hello(A, TWO) is Reason.UNTRUSTED_KEY
    assert door.hello(A, TWO, token=JOIN_TOKEN) is None
    assert door.states(TWO) == {A.public.id: NodeKeyState.TRUSTED}


def test_the_controllers_key_is_made_once_and_a_second_one_is_refused(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.key"
    made = own_key.ensure(database, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert own_key.ensure(database, file).public == made.public
    with pytest.raises(OperatorError, match="is missing") as caught:
        own_key.ensure(database, tmp_path / "other.key")
    assert "VXLAN_OPERATOR_SIGNING_KEY" in caught.value.hint
    assert not (tmp_path / "other.key").exists(), "two controllers with two keys would be a split"
    file.rename(tmp_path / "mine.key")
    file.write_bytes(A.pem())
    with pytest.raises(OperatorError, match=f"is the key {A.public.id}"):
        own_key.ensure(database, file)


def test_a_rotation_waits_for_the_nodes_and_then_signs_by_the_next_key(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.key"
    first = own_key.ensure(database, file)
    keys = Keyring(database, file, first)
    put(database)
    with database.write() as session:
        store.announce(session, A.public, ANN)
    keys.refresh()
    assert list(keys.controllers) == [first.public.text, A.public.text]
    assert keys.signer.public == first.public
    with database.write() as session, pytest.raises(store.KeyStateError, match="one, two"):
        store.finish(session, ANN, force=False)
    with pytest.raises(store.KeyStateError, match="no private key"):
        keys.check(A.public.id)
    own_key.next_file(file).write_bytes(A.pem())
    keys.check(A.public.id)
    with database.write() as session:
        for node in session.scalars(select(Node)):
            node.controller_keys = [first.public.id, A.public.id]
    with database.write() as session:
        store.create_join_token(session, JOIN_TOKEN.public, ANN, None)
        store.finish(session, ANN, force=False, revoke_join_tokens=True)
        assert store.join_tokens(session, revoked=False) == []
    keys.refresh()
    assert keys.signer.public == A.public
    assert list(keys.controllers) == [A.public.text]
    with database.read() as session:
        assert [row.state for row in store.controller_keys(session)] == [
            ControllerKeyState.SIGNING,
            ControllerKeyState.RETIRED,
        ]
    assert own_key.ensure(database, file).public == A.public, "also after a restart"


def held(file: Path) -> PublicKey | None:
    key = read_key(file)
    return None if key is None else key.public


def test_a_second_rotation_follows_the_first(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "controller.key"
    following, retired = own_key.next_file(file), tmp_path / "controller.key.retired"
    signing = own_key.ensure(database, file)
    for _ in range(2):
        keys = Keyring(database, file, signing)
        made = make_key(following)
        before, signing = signing, made
        with database.write() as session:
            store.announce(session, made.public, ANN)
        keys.refresh()
        with database.write() as session:
            store.finish(session, ANN, force=True)
            keys.check(made.public.id)
        assert held(file) == before.public, "not before that is certain"
        keys.refresh()
        assert keys.signer.public == made.public
        assert not following.exists(), "there is room for the next one"
        assert held(retired) == before.public
        assert file.stat().st_mode & 0o777 == 0o600
        assert own_key.ensure(database, file).public == made.public, "also after a restart"
        assert held(file) == made.public


def rotated(database: Database, file: Path, signing: SigningKey, count: int) -> list[PublicKey]:
    """Rotate the controllers' key so often; return the keys, the first one first."""
    made = [signing.public]
    for _ in range(count):
        keys = Keyring(database, file, signing)
        signing = make_key(own_key.next_file(file))
        made.append(signing.public)
        with database.write() as session:
            store.announce(session, signing.public, ANN)
        keys.refresh()
        with database.write() as session:
            keys.hand_over(store.finish(session, ANN, force=True))
        keys.refresh()
        assert keys.signer.public == signing.public
    return made


def test_every_former_key_of_the_controllers_leads_to_the_one_that_signs(
    database: Database, tmp_path: Path
) -> None:
    """So a join token made before rotations, and a node that was away for them, serve."""
    file = tmp_path / "controller.key"
    made = rotated(database, file, own_key.ensure(database, file), 3)
    signing = read_key(file)
    assert signing is not None
    keys = Keyring(database, file, signing)
    assert keys.succession == "", "nothing was read yet"
    keys.refresh()
    for former in made[:-1]:
        assert follow(keys.succession, [former], made[-1].id) == made[-1]
    assert follow(keys.succession, [A.public], made[-1].id) is None


def test_a_controller_that_does_not_sign_hands_nothing_over(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.key"
    own_key.ensure(database, file)
    own_key.next_file(file).write_bytes(A.pem())
    with database.write() as session:
        store.announce(session, A.public, ANN)
    with pytest.raises(store.KeyStateError, match="no private key"), database.write() as session:
        Keyring(database, file, B).hand_over(store.finish(session, ANN, force=True))
    with database.read() as session:
        assert store.signing_key(session).id != A.public.id, "and nothing is switched"


@pytest.mark.parametrize("why", ["paused", "ignored", "down", "gone", "the cluster is paused"])
def test_a_node_that_is_not_asked_keeps_no_rotation_waiting_and_is_named(
    database: Database, tmp_path: Path, why: str
) -> None:
    own_key.ensure(database, tmp_path / "controller.key")
    put(database)
    with database.write() as session:
        store.announce(session, A.public, ANN)
        one = session.get_one(Node, ONE)
        session.get_one(Node, TWO).controller_keys = [A.public.id]
        assert store.unaware(session, A.public.id) == store.Unaware(["one"], [])
        if why == "paused":
            one.paused_at = START
        elif why == "ignored":
            one.label_ignore = True
        elif why == "down":
            one.state = "down"
        elif why == "gone":
            one.gone_at = START
        else:
            session.get_one(Cluster, 1).paused_at = START
    with database.write() as session:
        later = [] if why == "gone" else ["one"]
        assert store.unaware(session, A.public.id) == store.Unaware([], later)
        assert store.finish(session, ANN, force=False).id == A.public.id


def test_a_start_puts_the_key_of_a_rotation_in_its_place(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.key"
    first = own_key.ensure(database, file)
    own_key.next_file(file).write_bytes(A.pem())
    assert own_key.ensure(database, file).public == first.public
    assert own_key.next_file(file).exists(), "it does not sign yet"
    with database.write() as session:
        store.announce(session, A.public, ANN)
        store.finish(session, ANN, force=True)
    assert own_key.ensure(database, file).public == A.public
    assert held(file) == A.public
    own_key.next_file(file).write_bytes(b"no key")
    assert own_key.ensure(database, file).public == A.public, (
        "what lies beside it keeps nobody from starting"
    )


def test_the_file_of_the_key_that_signs_is_not_to_be_moved_away(
    database: Database, tmp_path: Path
) -> None:
    first = own_key.ensure(database, tmp_path / "controller.key")
    with database.write() as session, pytest.raises(store.KeyStateError) as caught:
        store.announce(session, first.public, ANN)
    assert "keep its file" in caught.value.hint
    with database.write() as session:
        store.announce(session, A.public, ANN)
        store.finish(session, ANN, force=True)
    with database.write() as session, pytest.raises(store.KeyStateError) as caught:
        store.announce(session, first.public, ANN)
    assert "move this one's file away" in caught.value.hint


def test_a_lost_key_of_the_controllers_is_replaced(tmp_path: Path) -> None:
    file, url = tmp_path / "controller.key", f"sqlite:///{tmp_path / 'controller.db'}"

    def replace() -> Result:
        return CliRunner().invoke(app, ["keys", "replace", "--database-url", url, "--as", "ann"])

    with closing(open_database(url)) as database:
        assert isinstance(replace().exception, OperatorError), "there is none yet"
        lost = own_key.ensure(database, file)
        with database.write() as session:
            store.announce(session, A.public, ANN)
            store.create_join_token(session, JOIN_TOKEN.public, ANN, None)
        file.rename(tmp_path / "lost.key")
        with pytest.raises(OperatorError, match="is missing") as caught:
            own_key.ensure(database, file)
        assert "`vxctl keys replace`" in caught.value.hint
        with only_one(url):
            assert isinstance(replace().exception, OperatorError), "a controller runs: it has it"
        result = replace()
        assert result.exit_code == 0, result.exception
        assert lost.public.id in result.output
        assert "join-token create" in result.output
        with database.read() as session:
            assert store.join_tokens(session, revoked=False) == [], "they name the lost key"
        row = [row for row in audit(database) if row.stage is Stage.KEYS_ROTATED][-1]
        assert (row.actor, row.claimed_name) == ("system", "ann")
        assert lost.public.id in row.reason
        with database.write() as session, pytest.raises(store.KeyStateError, match="no key yet"):
            store.announce(session, B.public, ANN)
        file.write_bytes(lost.pem())
        with pytest.raises(OperatorError, match=f"{lost.public.id} in .* is retired"):
            own_key.ensure(database, file)
        file.unlink()
        made = own_key.ensure(database, file)
        assert made.public not in {lost.public, A.public}
        with database.read() as session:
            assert store.signing_key(session).id == made.public.id
            states = [row.state for row in store.controller_keys(session)]
        assert states == [ControllerKeyState.SIGNING, *[ControllerKeyState.RETIRED] * 2]


def test_a_controller_that_has_read_no_keys_yet_takes_no_next_one_from_the_workers(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.key"
    first = own_key.ensure(database, file)
    with database.write() as session:
        store.announce(session, A.public, ANN)
    keys = Keyring(database, file, first)
    assert list(keys.controllers) == [], "the workers' are to stay"
    keys.refresh()
    assert list(keys.controllers) == [first.public.text, A.public.text]


def test_a_controller_without_the_new_key_heeds_what_people_decide(
    door: Door, database: Database, tmp_path: Path
) -> None:
    own_key.ensure(database, give_key(tmp_path / "controller.key", CONTROLLERS_KEY))
    pin(database, ONE)
    door.keys.refresh()
    with database.write() as session:
        store.announce(session, A.public, ANN)
        store.finish(session, ANN, force=True)
        store.revoke(session, session.get_one(Node, ONE), None, ANN)
    with pytest.raises(OperatorError, match=f"sign with the key {A.public.id}, and .* is missing"):
        door.keys.refresh()
    assert door.keys.signer.public == CONTROLLERS_KEY.public
    assert list(door.keys.controllers) == [], "no worker would take them from the key before"
    assert door.hello(key_of(ONE)) is Reason.REVOKED_KEY
    assert door.hello(B, TWO, token=JOIN_TOKEN) is None, "a node joins"
    assert door.hello(C, ONE) is Reason.UNTRUSTED_KEY
    with database.write() as session:
        store.trust(session, session.get_one(Node, ONE), C.public.id, ANN)
    door.keys.look()
    assert door.hello(C, ONE) is None


def test_a_key_that_a_reading_under_way_finds_is_known(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report of a node whose key was pinned a moment ago would be refused, and lost."""
    keys = keyring(database)
    reading, go = threading.Event(), threading.Event()
    read = database.read

    def slow() -> AbstractContextManager[Session]:
        reading.set()
        assert go.wait(60)
        return read()

    pin(database, ONE)
    monkeypatch.setattr(database, "read", slow)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(keys.refresh)
        assert reading.wait(60)
        finding = pool.submit(keys.find, key_of(ONE).public.id)
        threading.Timer(0.1, go.set).start()
        assert finding.result(60) is not None


def test_a_key_that_is_gone_is_forgotten(database: Database) -> None:
    keys = keyring(database)
    pin(database, ONE)
    known = key_of(ONE).public.id
    assert keys.find(known) is not None
    with database.write() as session:
        session.delete(session.get_one(NodeKey, known))
    assert keys.find(known) is not None, "for some seconds"
    keys.refresh()
    assert keys.find(known) is None


@pytest.mark.parametrize(
    ("state", "kept"), [("ready", NodeKeyState.TRUSTED), ("down", None)], ids=["lives", "is down"]
)
def test_a_node_that_joined_again_keeps_its_key_though_docker_lists_its_former_id(
    door: Door, database: Database, state: str, kept: NodeKeyState | None
) -> None:
    door.hello(A, token=JOIN_TOKEN)
    with database.write() as session:
        session.get_one(Node, ONE).state = state
    taken = door.hello(A, TWO, token=JOIN_TOKEN) is None
    assert taken is (kept is None)
    assert door.states().get(A.public.id) == kept
    assert door.states(TWO) == ({A.public.id: NodeKeyState.TRUSTED} if taken else {})


@pytest.mark.parametrize("now", ["down", "gone"])
def test_a_hello_of_before_takes_no_key_back_to_its_nodes_former_id(
    door: Door, database: Database, now: str
) -> None:
    """Who owns the broker has kept it; the former id is still listed, and the node is down, or left again."""
    door.hello(A, token=JOIN_TOKEN)
    before = door.sent
    with database.write() as session:
        session.get_one(Node, ONE).state = "down"
    assert door.hello(A, TWO, token=JOIN_TOKEN) is None
    with database.write() as session:
        two = session.get_one(Node, TWO)
        two.state, two.gone_at = "down", door.clock() if now == "gone" else None
    door.reception.hello(door.believed.append)(before)
    assert (door.states(), door.states(TWO)) == ({}, {A.public.id: NodeKeyState.TRUSTED})


def test_a_nodes_password_at_the_broker_changes_once_in_ten_seconds(
    door: Door, database: Database
) -> None:
    """Each change is a write, and users of Redis that are set again, with their connections."""
    key = key_of("a")
    door.hello(key, token=JOIN_TOKEN, password="0" * 64)
    taken = []
    for number in range(1, 21):  # Two seconds each.
        door.hello(key, password=f"{number:064}")
        with database.read() as session:
            (row,) = store.node_keys(session, ONE)
        if row.broker_password == f"{number:064}":
            taken.append(number)
    assert taken == [1, 6, 11, 16]


def test_messages_of_forgotten_keys_take_no_memory(door: Door, database: Database) -> None:
    """Machines come and go, each with a key of its own."""
    gone, stays = key_of("gone"), key_of("stays")
    assert door.hello(gone, token=JOIN_TOKEN) is None
    with database.write() as session:
        session.delete(session.get_one(NodeKey, gone.public.id))
    assert door.hello(stays, TWO, token=JOIN_TOKEN) is None
    assert door.reception._replays.state().keys() == {stays.public.id}


@pytest.mark.parametrize("token", [JOIN_TOKEN, None], ids=["believed", "waits for a person"])
def test_a_former_password_does_not_come_back_with_another_leader(
    door: Door, database: Database, token: JoinToken | None
) -> None:
    """Who writes to Redis can repeat a Hello, which the leader before would know again."""

    def kept() -> str | None:
        with database.read() as session:
            (row,) = store.node_keys(session, ONE)
        return row.broker_password

    first, second, third = "1" * 64, "2" * 64, "3" * 64
    door.hello(A, token=token, password=first)
    told = door.sent
    door.clock.advance(10)
    door.hello(A, password=second)
    assert kept() == second
    leader = Reception(database, door.keys, refused=door.refused, utcnow=door.clock)
    door.clock.advance(10)
    leader.hello(door.believed.append)(told)
    assert kept() == second
    door.clock.advance(-400)
    door.reception = leader
    door.hello(A, password=third)
    assert kept() == third, "its clock and ours were ahead, and are put right"


def test_a_nodes_password_at_the_broker_is_what_its_believed_key_signs(
    door: Door, database: Database
) -> None:
    def kept() -> dict[str, str | None]:
        with database.read() as session:
            return {row.id: row.broker_password for row in store.node_keys(session, ONE)}

    first, second, thief = "1" * 64, "2" * 64, "3" * 64
    key, other = key_of("a"), key_of("b")
    door.hello(key, token=JOIN_TOKEN, password=first)
    assert kept() == {key.public.id: first}
    door.hello(key)
    assert kept() == {key.public.id: first}, "one that says nothing takes nothing away"
    door.clock.advance(10)
    door.hello(key, password=second)
    assert kept() == {key.public.id: second}
    assert door.hello(other, token=JOIN_TOKEN, password=thief) is Reason.UNTRUSTED_KEY
    assert kept() == {key.public.id: second, other.public.id: thief}

    monitor = Health().users
    users = BrokerUsers(database, CommandConnection(celery_app("test", MEMORY_BROKER)), monitor)
    assert {name: user.password for name, user in users._wanted().items()} == {
        f"node-{ONE}": second
    }
    with database.write() as session:
        one = session.get_one(Node, ONE)
        one.gone_at = START
    assert not users._wanted(), "it left the Swarm"
