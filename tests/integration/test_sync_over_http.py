"""Reading a Swarm over its API, which breaks off in the middle: what was read by then changes nothing."""

from pathlib import Path

from sqlalchemy import func, select

from controller.db.engine import Database
from controller.db.models import Attachment, Cluster
from controller.swarm.events import Hints
from controller.swarm.manager import DockerSwarm
from controller.swarm.sync import Sync
from tests.fake_clock import Clock
from tests.fake_docker import FakeDocker, Fault
from tests.fake_swarm import INGRESS, SHOP, snapshot, task

NODES = [f"n{number}x" for number in range(60)]
"""More than are asked for at once."""


def carried(database: Database) -> int:
    """How many attachments are stored."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Attachment)) or 0


def test_an_answer_that_fails_after_others_came_changes_no_desired_state(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    tasks = [task(f"t{name}", name, "shop") for name in NODES]
    state = snapshot(*NODES, networks=[INGRESS, SHOP], tasks=tasks)
    fewer = snapshot(*NODES, networks=[INGRESS, SHOP], tasks=tasks[5:])
    with FakeDocker(tmp_path / "docker.sock", state) as docker:
        swarm = DockerSwarm(docker.url)
        sync = Sync(
            swarm, database, hints=Hints(), notify=lambda *_: None,
            period=1.0, resync=1.0, share=1.0, utcnow=clock,
            monotonic=lambda: clock.now.timestamp(),  # noqa: PLW0108 -- `now` is replaced
        )  # fmt: skip
        assert sync.step()
        assert carried(database) == 2 * len(NODES)
        docker.show(fewer)
        docker.faults["tasks"], docker.spared["tasks"] = Fault.ERROR, 2
        clock.advance(100)
        assert not sync.step()
        assert docker.spared["tasks"] == 0, "some answers came"
        assert carried(database) == 2 * len(NODES)
        with database.read() as session:
            assert session.get_one(Cluster, 1).sync_reason == "SwarmUnreadable"
        docker.faults.clear()
        clock.advance(100)
        assert sync.step()
        assert carried(database) == 2 * len(NODES) - 5
        swarm.close()
