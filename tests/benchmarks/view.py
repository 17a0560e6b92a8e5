"""How fast the worker looks and judges: 5,000 leaked devices against the C tool, and a typical node."""

import subprocess
from contextlib import closing
from datetime import UTC, datetime

from contract.messages import SwarmReading
from contract.verdicts import Verdict
from tests.benchmarks.measure import in_own_namespace, ip, median_seconds
from worker.idle import IdleClock
from worker.judge import Judgement, judge
from worker.kernel.rtnetlink import RouteNetlink
from worker.networks import Networks
from worker.proof import RequestProver, Waits

MANY = 5_000
SANDBOXES, OTHERS = 20, 10
_FLAGS = "dstport 4789 proxy l2miss l3miss"


def main() -> None:
    """Measure, and print."""
    if not in_own_namespace("tests.benchmarks.view"):
        return
    with closing(RouteNetlink.open()) as kernel:
        _typical(kernel)
        _many(kernel)


def _look_and_judge(kernel: RouteNetlink, clock: IdleClock) -> list[Judgement]:
    view = kernel.look()
    clock.saw(view.devices)
    prover = RequestProver(
        clock=clock,
        waits=Waits(grace=5.0, sandbox_grace=5.0, unclaimed=300.0),
        reading=SwarmReading(after=clock.stamp(), ready_seconds=0.0),
        rejections=(),
        joins={},
        now=datetime.now(UTC),
    )
    return judge(view.devices, Networks.of([], [], 4789), prover)


def _typical(kernel: RouteNetlink) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for number in range(SANDBOXES + OTHERS):
        subprocess.run(["ip", "netns", "add", f"s{number}"], check=True)
        if number < SANDBOXES:
            name, vni = f"vx-{number + 4097:06x}-abcde", number + 4097
            ip(
                f"link add {name} type vxlan id {vni} {_FLAGS}",
                f"link set {name} netns s{number}",
            )
            subprocess.run(
                ["ip", "-netns", f"s{number}", "-batch", "-"],
                input=f"link add br0 type bridge\nlink set {name} name vxlan0 master br0 up\n"
                "link add veth0 type veth peer name veth1\nlink set veth0 master br0\n",
                text=True,
                check=True,
            )
        else:
            ip(f"link add v{number} type veth peer name eth0 netns s{number}")
    clock = IdleClock(15.0)
    found = _look_and_judge(kernel, clock)
    assert [each.verdict for each in found] == [Verdict.IN_USE] * SANDBOXES
    seconds = median_seconds(lambda: _look_and_judge(kernel, clock), 51)
    print(
        f"typical node ({SANDBOXES} devices in {SANDBOXES + OTHERS} namespaces): "
        f"view and judge {seconds * 1000:.2f} ms"
    )


def _many(kernel: RouteNetlink) -> None:
    ip(
        *(
            f"link add vx-{vni:06x}-abcde type vxlan id {vni} {_FLAGS}"
            for vni in range(8192, 8192 + MANY)
        )
    )
    command = ["ip", "-d", "-j", "link", "show", "type", "vxlan"]
    clock = IdleClock(15.0)
    assert len(_look_and_judge(kernel, clock)) == MANY + SANDBOXES
    theirs = median_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    ours = median_seconds(lambda: _look_and_judge(kernel, clock))
    print(
        f"{MANY} host devices: view and judge {ours * 1000:.0f} ms, "
        f"`{' '.join(command)}` {theirs * 1000:.0f} ms, ratio {ours / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
