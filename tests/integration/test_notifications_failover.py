"""Two real controllers: the one that leads is killed while a target hangs, and the other tells it, once."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from contract.verdicts import Stage
from controller.audit.append import Entry, append
from controller.db.engine import open_database
from controller.db.models import Node
from tests.controller_process import ControllerProcess, controller_of
from tests.fake_docker import FakeDocker
from tests.receivers import HttpReceiver, hang, http_receiver
from tests.servers import PostgresServer, RedisServer, await_true


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def remove_orphan(url: str, reason: str) -> None:
    """Record a removal, as the intake of a report does."""
    now = datetime.now(UTC)
    with closing(open_database(url)) as database, database.write() as session:
        node = session.scalars(select(Node).where(Node.hostname == "one")).one()
        entry = Entry(stage=Stage.VERIFIED, at=now, reason=reason, actor="controller", node=node)
        append(session, [entry], now)


def test_a_fail_over_loses_nothing_and_the_receiver_can_tell_what_came_twice(
    tmp_path: Path,
    redis: RedisServer,
    docker: FakeDocker,
    postgres_server: PostgresServer,
    receiver: HttpReceiver,
) -> None:
    url = postgres_server.new_database()
    options = ("--notify-allow", "127.0.0.0/8", "--public-url", "https://ops.example")
    with ExitStack() as stack:

        def controller(name: str) -> ControllerProcess:
            return stack.enter_context(
                controller_of(tmp_path / name, docker, redis.url, *options, database_url=url)
            )

        first = controller("first")
        # Of the Swarm's nodes, which have no workers, there would be notices, too.
        only = ("--event", "orphan_removed")
        said = first.vxctl("notify", "add", "ops", "webhook", receiver.url, *only)
        assert said.splitlines()[-1].startswith("whsec_")
        remove_orphan(url, "told by the first")
        receiver.wait(1)
        await_true(lambda: not first.json("notify", "list")[0]["waiting"], "it is stored as taken")
        receiver.by_hand = hang
        second = controller("second")
        remove_orphan(url, "the first is killed while it tells this")
        receiver.wait(2)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        receiver.by_hand = None
        receiver.wait(3)
        await_true(lambda: not second.json("notify", "list")[0]["waiting"], "it is stored as taken")
        receiver.status, receiver.text = 500, "no"
        remove_orphan(url, "nobody takes this")
        await_true(lambda: "ops fails since" in second.vxctl("notify", "list"), "it is shown")
        assert "hook/secret" not in second.log()
    reasons = [json.loads(got.body)["data"]["why"] for got in receiver.received]
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert reasons[:3] == ["told by the first", *["the first is killed while it tells this"] * 2]
    assert ids[0] != ids[1] == ids[2]
