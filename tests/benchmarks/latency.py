"""From the end of the grace period to the device gone, through the link watch, Redis and controller."""

import re
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tests.lab import Lab, LabNetwork, Node
from tests.servers import await_true
from tests.stack import Stack
from tests.swarm.services import make_network

GRACE_SECONDS = 3.0
TIMES = 15
_EVENT = re.compile(r"^(Deleted )?\d+: (vx-\S+?)[:@]")


class Clock:
    """When links came and went, told by `ip monitor`, which knows nothing of us."""

    def __init__(self, node: Node) -> None:
        self.came: dict[str, float] = {}
        self.went: dict[str, float] = {}
        self._process: subprocess.Popen[str] = node.popen(
            ["stdbuf", "-oL", "ip", "monitor", "link"], stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

        def listens() -> bool:
            node.run(["ip", "link", "add", "vx-listens", "type", "bridge"])
            node.run(["ip", "link", "delete", "vx-listens"])
            return bool(self.went)

        await_true(listens, "the clock listens")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now = time.monotonic()
            event = _EVENT.match(line)
            if event is not None:
                (self.went if event[1] else self.came).setdefault(event[2], now)


def main() -> None:
    """Measure, and print."""
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-latency-") as folder,
        Lab.create("latency", nodes=2) as lab,
        Stack(lab, Path(folder), grace=GRACE_SECONDS) as stack,
    ):
        network = make_network(lab, "latency")
        clock = Clock(lab.nodes[1])
        late = [_late(lab, stack, clock, network, number) for number in range(TIMES)]
    print(
        f"end of the grace period to gone, {TIMES} times: median {statistics.median(late) * 1000:.0f} "
        f"ms, fastest {min(late) * 1000:.0f}, slowest {max(late) * 1000:.0f}"
    )


def _late(lab: Lab, stack: Stack, clock: Clock, network: LabNetwork, number: int) -> float:
    node = lab.nodes[1]
    clock.came.clear()
    clock.went.clear()
    name = f"vx-{network.vnis[0] + number:06x}-{network.id[:5]}"
    node.run(
        ["ip", "link", "add", name, "type", "vxlan", "id", str(network.vnis[0] + number),
         "dstport", "4789", "proxy", "l2miss", "l3miss"]
    )  # fmt: skip
    await_true(lambda: name in clock.went, f"{name} is removed")
    return clock.went[name] - clock.came[name] - GRACE_SECONDS


if __name__ == "__main__":
    main()
