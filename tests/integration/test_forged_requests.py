"""What the owner of the broker, or of another node, puts into a worker's queue does nothing to its node.

Each message is one that would remove the orphan which is there, but for what is wrong with it.
"""

import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from contract.messages import ReconcileReport, ReconcileRequest, SwarmReading
from contract.queues import HELLO_TASK, RECONCILE_TASK
from contract.signing.envelope import CONTROLLERS, Signer, node_address
from contract.signing.keys import SigningKey
from contract.signing.succession import Link, vouch, write
from contract.verdicts import HeldBack, Mode, Outcome, Stage, Verdict
from tests import signed
from tests.builders import NAME, NODE, OTHER_NODE, PORT, VNI
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import Controller, Worker, heal, running
from tests.servers import RedisServer, await_true

pytestmark = pytest.mark.privileged

MANY: Final = 300
"""Messages. One that stopped the consumer would cost a second."""


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


@pytest.fixture
def controller(redis_server: RedisServer, broker_url: str) -> Controller:
    return Controller(redis_server)


@pytest.fixture
def worker(host: Namespace, redis_server: RedisServer, tmp_path: Path) -> Iterator[Worker]:
    with running(host, tmp_path, redis_server.url) as worker:
        yield worker


def deadly(controller: Controller, **fields: object) -> ReconcileRequest:
    """A request that removes what is dead, as an honest controller makes it now."""
    now = datetime.now(UTC)
    return ReconcileRequest(
        run_id=uuid4(),
        node_id=NODE,
        generation=1,
        issued_at=now,
        deadline=now + timedelta(minutes=10),
        mode=Mode.ENFORCE,
        data_path_port=PORT,
        desired=(),
        fence=0,
        max_removals=100,
        next_within=3600.0,
        reading=SwarmReading(after=controller.heard, ready_seconds=3600),
    ).model_copy(update=fields)


def sealed(
    request: ReconcileRequest,
    *,
    key: SigningKey = signed.CONTROLLERS_KEY,
    sender: str = CONTROLLERS,
    audience: str = node_address(NODE),
    task: str = RECONCILE_TASK,
    age: timedelta = timedelta(0),
) -> str:
    signer = Signer(key, sender, now=lambda: datetime.now(UTC) - age)
    return signer.seal(request.model_dump_json(), audience=audience, task=task)


def known_orphan(host: Namespace, controller: Controller) -> ReconcileReport:
    """Leave an orphan, and look until it is proved dead; nothing is removed."""
    host.add_vxlan(NAME, VNI)
    found: list[ReconcileReport] = []

    def is_orphan() -> bool:
        found.append(controller.report_on(controller.ask(mode=Mode.OBSERVE)))
        return [each.verdict for each in found[-1].devices] == [Verdict.ORPHAN]

    await_true(is_orphan, "the orphan is known")
    return found[-1]


def tampered(text: str) -> str:
    """One character of the payload is another."""
    return text.replace('"generation":1,', '"generation":2,', 1)


FORGERIES: Final[dict[str, tuple[str, Callable[[ReconcileRequest], object]]]] = {
    "unsigned": ("unsigned", lambda request: request.model_dump_json()),
    "unsigned, as before keys": ("unsigned", lambda request: request.model_dump(mode="json")),
    "by another key": ("unknown_key", lambda r: sealed(r, key=signed.key_of("eve"))),
    "by the key of a node": ("unknown_key", lambda r: sealed(r, key=signed.key_of(OTHER_NODE))),
    "under the controllers' key id": (
        "bad_signature",
        lambda r: sealed(r, key=(eve := signed.key_of("eve"))).replace(
            eve.public.id, signed.CONTROLLERS_KEY.public.id, 1
        ),
    ),
    "tampered with": ("bad_signature", lambda r: tampered(sealed(r))),
    "for another node": ("wrong_audience", lambda r: sealed(r, audience=node_address(OTHER_NODE))),
    "about another node": (
        "wrong_sender",
        lambda r: sealed(r.model_copy(update={"node_id": OTHER_NODE})),
    ),
    "by a node": ("wrong_sender", lambda r: sealed(r, sender=node_address(OTHER_NODE))),
    "another task": ("wrong_task", lambda r: sealed(r, task=HELLO_TASK)),
    "a day old": ("expired", lambda r: sealed(r, age=timedelta(days=1))),
    "of tomorrow": ("from_the_future", lambda r: sealed(r, age=-timedelta(days=1))),
    "with a huge fence": (
        "unknown_key",
        lambda r: sealed(
            r.model_copy(update={"fence": 2**63 - 1}), key=signed.key_of("eve")
        ),
    ),
    "cut short": ("bad_signature", lambda r: sealed(r)[:-40]),
}  # fmt: skip


def test_no_forged_request_removes_anything_nor_keeps_an_honest_one_out(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    known_orphan(host, controller)
    for name, (reason, forge) in FORGERIES.items():
        controller.send([forge(deadly(controller))])
        report = controller.report_on(controller.ask(mode=Mode.OBSERVE))
        assert [each.removed for each in report.devices] == [False], name
        counted = f"1 message(s) to it were refused, the newest ({reason})"
        assert counted in " ".join(report.limitations), name
    assert worker.stages() == [Stage.DETECTED]
    assert heal(controller).devices[0].removed, "what is honest is done"
    assert worker.process.poll() is None


def test_an_old_request_is_run_once_whatever_is_killed(
    host: Namespace, redis_server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    with running(host, tmp_path, redis_server.url) as worker:
        controller.report_on(controller.ask(mode=Mode.OBSERVE))
        old = deadly(controller)
        text = sealed(old)
        for _ in range(3):
            controller.send([text])
        assert controller.report_on(old.run_id).outcome is Outcome.DONE
        again = controller.report_on(controller.ask(mode=Mode.OBSERVE))
        assert "2 message(s) to it were refused, the newest (replayed)" in str(again.limitations)
        assert worker.end(signal.SIGKILL) == -signal.SIGKILL
    with running(host, tmp_path, redis_server.url) as worker:
        known_orphan(host, controller)
        controller.send([text])
        report = controller.report_on(controller.ask(mode=Mode.OBSERVE))
        assert not report.devices[0].removed
        assert "1 message(s) to it were refused, the newest (replayed)" in str(report.limitations)
        assert worker.stages() == [Stage.DETECTED]


def test_a_request_that_was_kept_back_goes_around_no_observe_mode(
    host: Namespace, redis_server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    """The broker delivers it after a newer one; also to a worker that was restarted meanwhile."""
    with running(host, tmp_path, redis_server.url) as worker:
        known_orphan(host, controller)
        kept_back = deadly(controller)
        controller.report_on(controller.ask(mode=Mode.OBSERVE))
        controller.send([sealed(kept_back)])
        refused = controller.report_on(kept_back.run_id)
        assert refused.outcome is Outcome.REFUSED
        assert "older than one that was already run" in (refused.error or "")
        kept_back = deadly(controller)
        controller.report_on(controller.ask(mode=Mode.OBSERVE))
        worker.end(signal.SIGKILL)
    with running(host, tmp_path, redis_server.url) as worker:
        controller.send([sealed(kept_back)])
        assert controller.report_on(kept_back.run_id).outcome is Outcome.REFUSED
        assert NAME in host.ip("-o link show type vxlan")


def test_a_request_that_is_kept_back_for_longer_than_its_deadline_does_nothing(
    host: Namespace, redis_server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    """Though the worker heard of no pause since, nor of anything; also if it has forgotten what it heard."""
    with running(host, tmp_path, redis_server.url) as worker:
        known_orphan(host, controller)
        kept_back = deadly(controller, deadline=datetime.now(UTC) + timedelta(seconds=1))
        await_true(lambda: datetime.now(UTC) > kept_back.deadline, "the deadline is over")
        controller.send([sealed(kept_back)])
        refused = controller.report_on(kept_back.run_id)
        assert refused.outcome is Outcome.REFUSED
        assert "after its deadline" in (refused.error or "")
        worker.end(signal.SIGKILL)
    (tmp_path / "heard.json").unlink()
    with running(host, tmp_path, redis_server.url):
        controller.send([sealed(kept_back)])
        assert controller.report_on(kept_back.run_id).outcome is Outcome.REFUSED
        assert NAME in host.ip("-o link show type vxlan")
        assert heal(controller).devices[0].removed, "the same before its deadline"


def test_a_worker_that_was_away_for_a_rotation_follows_the_controllers_keys(
    host: Namespace, redis_server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    """As one does that was set up with a join token of before; and nobody else is followed."""
    following, eve = signed.key_of("the next controllers"), signed.key_of("eve")
    old, new = signed.CONTROLLERS_KEY, following.public
    genuine = write([Link(old.public.id, new.text, vouch(old, new))])
    forged = write([Link(old.public.id, eve.public.text, vouch(eve, eve.public))])
    with running(host, tmp_path, redis_server.url) as worker:
        for succession in ("", forged, genuine, 5, "x" * 10**6):
            controller.send([sealed(deadly(controller), key=eve), succession])
        assert controller.report_on(controller.ask()).outcome is Outcome.DONE
        request = deadly(controller)
        controller.send([sealed(request, key=following), genuine])
        assert controller.report_on(request.run_id).controller_keys == (new.id,)
        worker.end(signal.SIGKILL)
    with running(host, tmp_path, redis_server.url):
        request = deadly(controller)
        controller.send([sealed(deadly(controller))])
        controller.send([sealed(request, key=following)])
        told = controller.report_on(request.run_id)
        assert "1 message(s) to it were refused, the newest (unknown_key)" in str(told.limitations)


def test_no_request_says_alone_which_devices_are_dockers(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    """Also a signed one: what is on another port than this node shows stays."""
    host.add_sandbox("live", "vx-001003-live0", 0x1003, endpoint=True)
    host.add_vxlan(NAME, VNI, port=8472)

    def held() -> bool:
        report = controller.report_on(controller.ask(data_path_port=8472))
        return [each.held_back for each in report.devices if each.identity.port == 8472] == [
            HeldBack.PORT
        ]

    await_true(held, "it is an orphan on that port, and held back")
    assert NAME in host.ip("-o link show type vxlan")


def test_a_worker_that_refuses_all_says_so_once_a_minute(
    worker: Worker, controller: Controller
) -> None:
    """As one that believes another key does: it makes no report to say it in."""
    while "started" not in controller.hello().reason:
        pass
    for _ in range(20):
        controller.send([sealed(deadly(controller), key=signed.key_of("eve"))])
    assert controller.hello().reason == (
        "it refuses what it is sent (unknown_key): its key is not known here"
    )
    report = controller.report_on(controller.ask())
    assert "20 message(s) to it were refused" in " ".join(report.limitations)
    controller.send(["x"])
    controller.report_on(controller.ask())
    assert controller.hellos() == []


def test_a_flood_of_forgeries_costs_a_line_of_the_log_and_little_time(
    worker: Worker, controller: Controller
) -> None:
    controller.report_on(controller.ask())
    request = deadly(controller)
    texts = [forge(request) for _, forge in FORGERIES.values()]
    began = time.monotonic()
    for number in range(MANY):
        controller.send([texts[number % len(texts)]])
    report = controller.report_on(controller.ask())
    took = time.monotonic() - began
    assert f"{MANY} message(s) to it were refused" in " ".join(report.limitations)
    assert worker.log.count("dropped invalid messages") <= 1 + took / 10
    assert took < MANY / 4, "it answers the next honest request at once"
