"""What everything costs while nothing happens: on a real Swarm of four nodes, and `vxctl up` on its manager.

Processor time over a minute, memory and threads of each process, with the settings of an installation.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.footprint import Process
from tests.lab import Lab
from tests.servers import await_true
from tests.stack import Program, Stack

NODES = 4
SETTLE_SECONDS = 30.0
IDLE_SECONDS = 60.0
_BIN = Path(sys.executable).parent
_DEFAULT = ("--sync-seconds", "2")
"""The default; the stack of the tests reads the Swarm more often."""


def main() -> None:
    """Measure, and print."""
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-idle-") as folder,
        Lab.create("idle", nodes=NODES) as lab,
    ):
        with Stack(lab, Path(folder), controller_options=_DEFAULT) as stack:
            _tell({program.name: Process(program.pid) for program in stack.programs})
        Path(folder, "up").mkdir()
        up = Program(
            "up",
            lab.manager.entry(),
            [str(_BIN / "vxctl"), "up", "--docker-host", lab.manager.docker_host,
             "--database-url", f"sqlite:///{folder}/up/controller.db",
             "--journal", f"{folder}/up/journal.jsonl"],
            Path(folder),
        )  # fmt: skip
        up.start()
        try:
            await_true(lambda: "controller started" in up.said(), "it has started")
            _tell({"vxctl up": Process(up.pid)})
        finally:
            up.stop()


def _tell(processes: Mapping[str, Process]) -> None:
    time.sleep(SETTLE_SECONDS)
    before = {name: (each.cpu_seconds(), each.wakes()) for name, each in processes.items()}
    time.sleep(IDLE_SECONDS)
    for name, process in processes.items():
        cpu, wakes = before[name]
        print(
            f"{name}: {(process.cpu_seconds() - cpu) / IDLE_SECONDS:.2%} of a core, "
            f"{(process.wakes() - wakes) / IDLE_SECONDS:.1f} wakes/s, "
            f"{process.rss_megabytes():.1f} MB resident, {process.pss_megabytes():.1f} MB proportional, "
            f"{process.counts()}"
        )
    print(f"(over {IDLE_SECONDS:g} s; load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
