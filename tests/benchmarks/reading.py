"""How long a person waits for a requeue while everything is read from the manager of 5,000 nodes.

The controller's parts are in this process, the manager and the person are others; no run is due.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from contract.runtime.logs import configure_logging
from controller.db.engine import Database, open_database
from controller.swarm.events import Hint, Hints
from controller.swarm.manager import DockerSwarm
from controller.swarm.sync import Sync
from tests.benchmarks.peers import process, requeue_by_hand
from tests.benchmarks.throughput import REQUEUES, RESYNC, Controller, make_due, told
from tests.big_swarm import BigDocker, BigSwarm
from tests.servers import PostgresServer, RedisServer


def big_swarm() -> BigSwarm:
    """100,000 tasks on 5,000 nodes."""
    return BigSwarm(5_000, networks=2_000, tasks=20, attached=1)


def be_manager(pipe: Connection, path: str) -> None:
    """Be the Docker API of a manager until told to end."""
    with BigDocker(Path(path), big_swarm()):
        pipe.send("ready")
        pipe.recv()


@contextmanager
def always(act: Callable[[], object]) -> Iterator[list[float]]:
    """Do this over and over; the list says how long each time took."""
    stopping, taken = threading.Event(), list[float]()

    def again_and_again() -> None:
        while not stopping.is_set():
            begin = time.perf_counter()
            act()
            taken.append(time.perf_counter() - begin)

    thread = threading.Thread(target=again_and_again, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        stopping.set()
        thread.join(60)


def measure(database: Database, broker: RedisServer, folder: Path) -> None:
    """Requeue idle nodes by hand while everything is read from a manager; nothing else is due."""
    path, socket = str(folder / "docker.sock"), broker.url.partition("//")[2]
    hints = Hints()
    controller = Controller(database, broker.url)
    with process(be_manager, path), closing(DockerSwarm(f"unix://{path}")) as swarm:
        sync = Sync(
            swarm,
            database,
            hints=hints,
            notify=controller.dispatcher.notify,
            period=0.0,
            resync=RESYNC.total_seconds(),
            share=2.0,  # Of which half is for reading everything: it is read all the time.
        )

        def read() -> None:
            hints.add(Hint(everything=True))
            assert sync.step()

        read()
        make_due(database, after=RESYNC)
        nodes = iter(big_swarm().node_ids)

        def requeue(doing: str) -> None:
            for count, pause in REQUEUES:
                chosen = list(islice(nodes, count))
                with process(requeue_by_hand, controller.url, socket, chosen, pause) as person:
                    person.send("begin")
                    taken = person.recv()
                print(
                    f"requeue by hand to the worker, {count} times, one {pause:g} s after another, "
                    f"{doing}: {told(taken)}"
                )

        with controller:
            requeue("nothing else to do")
            with always(read) as readings:
                requeue("while everything is read")
        print(f"everything was read {len(readings)} times, in a median of {median(readings):.1f} s")


def main() -> None:
    """Measure, and print."""
    configure_logging(level="warning")
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-reading-") as folder,
        RedisServer(Path(folder)) as broker,
        PostgresServer() as server,
        closing(open_database(server.new_database())) as database,
    ):
        measure(database, broker, Path(folder))


if __name__ == "__main__":
    main()
