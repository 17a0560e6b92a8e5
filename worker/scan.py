"""`vxlan-worker scan`: one look at this node, without broker, database or controller.

What somebody runs at 3 a.m. on a broken node. It knows nothing of desired state, so it judges by the
kernel's evidence alone; with a Docker socket in reach it also knows the networks' names. What carries
nothing is looked at again after the grace period, and only what then still carries nothing is an orphan.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

from contract.errors import OperatorError
from contract.logs import configure_logging
from contract.messages import NetworkRef
from contract.verdicts import Verdict
from worker.access import open_kernel
from worker.idle import IdleClock
from worker.journal import Record
from worker.judge import SANDBOX_GRACE_SECONDS, Judgement, Networks, judge
from worker.names import data_path_port, overlay_networks
from worker.port import Kernel, KernelError
from worker.remove import remove, verify
from worker.view import Identity, View

CLEAN: Final = 0
ORPHANS: Final = 1
CANNOT_LOOK: Final = 2

_DEFAULT_DATA_PATH_PORT: Final = 4789
_LOOKS_IN_GRACE: Final = 4
_MOST_LOOKS: Final = 5 * _LOOKS_IN_GRACE
_COLUMNS: Final = ("DEVICE", "PLACE", "VNI", "PORT", "STATE", "NETWORK", "VERDICT", "REASON")


def parser() -> argparse.ArgumentParser:
    """The options. Not from the environment: what removes is asked for in so many words."""
    options = argparse.ArgumentParser(
        prog="vxlan-worker scan",
        description="Look at every VXLAN device of this node, once. Needs CAP_NET_ADMIN in the host's "
        "network namespace, and nothing else.",
        epilog="exit status: 0 no orphans (left), 1 orphans (left), 2 could not look",
    )
    add = options.add_argument
    add("--fix", action="store_true", help="remove the orphans, and say so")
    add("-o", "--output", choices=("table", "json"), default="table", help="form of output")
    add(
        "--grace-seconds",
        type=_seconds,
        default=5.0,
        help="how long a device must have carried nothing (default: 5)",
    )
    add(
        "--docker-socket",
        type=Path,
        default=Path("/var/run/docker.sock"),
        help="dockerd's API, for the networks' names; may be missing (default: /var/run/docker.sock)",
    )
    add(
        "--data-path-port",
        type=_port,
        help="the Swarm's UDP port (default: what dockerd says, else 4789)",
    )
    return options


class _Screen:
    """Records removals where the person looks: standard error, before and after."""

    def append(self, records: Iterable[Record]) -> None:
        """Print the records."""
        for record in records:
            sys.stderr.write(f"{record.stage}: {record.identity}: {record.reason}\n")
        sys.stderr.flush()


def scan(options: argparse.Namespace) -> int:
    """Look, judge, with `fix` remove, and print; return the exit status.

    Raises:
        OperatorError: this process may not look.
    """
    configure_logging(level="warning")
    kernel = open_kernel()
    try:
        return _scan(options, kernel)
    except KernelError as error:
        raise OperatorError(
            str(error), "run it again; if it stays, the kernel's log may say more"
        ) from error
    finally:
        kernel.close()


def _scan(options: argparse.Namespace, kernel: Kernel) -> int:
    networks, port = _asked_of_docker(options)
    known = Networks.of(None, networks, port)
    view, judgements = _settled(kernel, known, options.grace_seconds)
    orphans = [each for each in judgements if each.verdict is Verdict.ORPHAN]
    left = orphans
    if orphans and options.fix:
        run_id = uuid4()
        outcomes = remove(orphans, kernel, _Screen(), run_id, port)
        devices = kernel.look().devices
        _Screen().append(verify(outcomes, devices, run_id))
        present = {device.identity for device in devices}
        left = [each for each in orphans if each.device.identity in present]
    gone = {each.device.identity for each in orphans} - {each.device.identity for each in left}
    rows = [_row(each, each.device.identity in gone) for each in judgements]
    if options.output == "json":
        _print_json(view, rows)
    else:
        _print_table(view, rows)
    return ORPHANS if left else CLEAN


def _settled(kernel: Kernel, networks: Networks, grace: float) -> tuple[View, list[Judgement]]:
    """Look until everything that carries nothing has done so for the grace period."""
    longest = max(grace, SANDBOX_GRACE_SECONDS)
    clock = IdleClock(believed_gap=longest)
    first: frozenset[Identity] | None = None
    for _ in range(_MOST_LOOKS):
        view = kernel.look()
        clock.saw(view.devices)
        judgements = judge(view.devices, networks, clock.idle_for, grace, SANDBOX_GRACE_SECONDS)
        settling = {
            each.device.identity: each.settles_in
            for each in judgements
            if each.settles_in is not None
        }
        # What begins to settle during the wait is told as settling, and not waited for.
        first = frozenset(settling) if first is None else first & settling.keys()
        if not first:
            break
        time.sleep(min(longest / _LOOKS_IN_GRACE, *(settling[identity] for identity in first)))
    return view, judgements


def _asked_of_docker(options: argparse.Namespace) -> tuple[Sequence[NetworkRef], int]:
    port = options.data_path_port
    networks: Sequence[NetworkRef] = ()
    if options.docker_socket.exists():
        try:
            networks = overlay_networks(options.docker_socket)
            port = port or data_path_port(options.docker_socket)
        except OSError as error:
            sys.stderr.write(f"note: no network names: {error}\n")
    return networks, port or _DEFAULT_DATA_PATH_PORT


def _row(judgement: Judgement, removed: bool) -> dict[str, object]:
    """What is told of one device; the names are a promise to those who script against them."""
    identity = judgement.device.identity
    network = judgement.network
    return {
        "device": identity.name,
        "ifindex": identity.ifindex,
        "place": str(identity.place),
        "vni": identity.vni,
        "port": identity.port,
        "state": "UP" if judgement.device.up else "DOWN",
        "network": None if network is None else network.name,
        "network_id": None if network is None else network.id,
        "verdict": judgement.verdict.value,
        "removed": removed,
        "reason": judgement.reason,
        "evidence": judgement.device.evidence,
    }


def _print_json(view: View, rows: Sequence[dict[str, object]]) -> None:
    json.dump({"devices": rows, "limits": view.limits}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_table(view: View, rows: Sequence[dict[str, object]]) -> None:
    for limit in view.limits:
        sys.stdout.write(f"Attention: {limit}\n")
    if not rows:
        sys.stdout.write("This node has no VXLAN devices.\n")
        return
    cells = [_COLUMNS] + [
        tuple(
            _printable(str(cell))
            for cell in (
                row["device"],
                row["place"],
                row["vni"],
                row["port"],
                row["state"],
                row["network"] or "-",
                "removed" if row["removed"] else row["verdict"],
                row["reason"],
            )
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _printable(text: str) -> str:
    """Text that cannot drive a terminal: names come from elsewhere."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be between 0.2 and 3600 seconds")
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port < 2**16:
        raise argparse.ArgumentTypeError("must be between 1 and 65535")
    return port
