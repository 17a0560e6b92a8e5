"""`vxlan-worker scan`: one look at this node, without broker, database or controller.

What somebody runs at 3 a.m. on a broken node. It knows nothing of desired state or of rejected tasks, so
it judges by the kernel's evidence alone, and a person takes the place of proof: `--fix` removes what has
carried nothing for a grace period, in a sandbox a long one, while no join is under way. With a Docker
socket in reach it knows the networks' names, and spares the sandbox of a network that has a container.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from contract.messages import NetworkRef
from contract.runtime.errors import OperatorError
from contract.runtime.logs import configure_logging
from contract.runtime.text import printable, with_file
from contract.verdicts import Proof, Urgency, Verdict
from worker.access import open_kernel
from worker.docker_socket import attached_containers, data_path_port, overlay_networks
from worker.idle import IdleClock
from worker.journal import Record
from worker.judge import Judgement, judge_minding_joins
from worker.kernel.api import Kernel, KernelError
from worker.kernel.model import (
    Device,
    Identity,
    Netns,
    VethPair,
    View,
)
from worker.networks import Networks
from worker.options import Parser
from worker.ownership import why_foreign
from worker.proof import JOIN_PAUSE_SECONDS, Found, Joins, format_time, join_under_way
from worker.remove import remove, verify

CLEAN: Final = 0
ORPHANS: Final = 1
CANNOT_LOOK: Final = 2

_DEFAULT_DATA_PATH_PORT: Final = 4789
_GRACE_SECONDS: Final = 5.0
_SANDBOX_GRACE_SECONDS: Final = 60.0
"""Nobody tells a scan that dockerd tried in vain: so it waits for longer than a held-up join is likely to."""
_MAX_PAUSE_SECONDS: Final = 1.0
_MAX_WAIT_SECONDS: Final = 2.0
"""Times the grace period: with joins all the time, what looks dead is told as settling."""
_MAX_NAMES: Final = 3
_COLUMNS: Final = ("DEVICE", "PLACE", "VNI", "PORT", "STATE", "NETWORK", "VERDICT", "REASON")


def parser() -> Parser:
    """The options. Not from the environment: what removes is asked for in so many words."""
    options = Parser(
        prog="vxlan-worker scan",
        description="Look at every VXLAN device of this node, once. Needs CAP_NET_ADMIN in the host's "
        "network namespace, and nothing else.",
        epilog="exit status: 0 nothing that looks dead is left, 1 something is, 2 could not look or not tell",
    )
    add = options.add_argument
    add("--fix", action="store_true", help="remove the orphans, and say so")
    add(
        "--remove",
        metavar="PLACE#IFINDEX",
        type=_one,
        help="remove this one device of Docker's, as in nsid:4#11, also if it is in use: make sure first "
        "that no container needs it",
    )
    add("-o", "--output", choices=("table", "json"), default="table", help="form of output")
    add(
        "--grace-seconds",
        type=_seconds,
        help="how long a device must have carried nothing (default: 5; in a sandbox 60, where a container "
        "that is just joining looks the same for as long as dockerd is held up)",
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
        help="the Swarm's UDP port (default: what dockerd says, or live sandboxes show; else 4789)",
    )
    return options


class _Screen:
    """Records removals where the person looks: standard error, before and after."""

    def append(self, records: Iterable[Record]) -> None:
        """Print the records."""
        for record in records:
            line = f"{record.stage}: {record.identity}: {record.reason}"
            sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()


def scan(options: argparse.Namespace) -> int:
    """Look, judge, with `fix` remove, and print; return the exit status.

    Raises:
        OperatorError: this process may not look.
    """
    configure_logging(level="warning")
    kernel = open_kernel()
    try:
        if options.remove is not None:
            return _remove_one(kernel, *options.remove)
        return _scan(options, kernel)
    except KernelError as error:
        raise OperatorError(
            str(error), "run it again; if it stays, the kernel's log may say more"
        ) from error
    finally:
        kernel.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByHand:
    """A `Prover`: a person asks for the removal of what has carried nothing for long enough.

    Attributes:
        clock: since when devices carry nothing.
        grace: seconds in the host namespace.
        sandbox_grace: seconds in a sandbox.
        patience: seconds after which waiting ends, though the grace period does not.
        joins: what Docker has between making a veth pair and moving it; the numbers mean nothing.
        attached: names of a network's containers, or why that cannot be told.
    """

    clock: IdleClock
    grace: float
    sandbox_grace: float
    patience: float
    joins: Joins
    attached: Callable[[NetworkRef], Sequence[str] | str]

    def __call__(self, device: Device, networks: Networks) -> Found:
        identity = device.identity
        if device.set_up_by_others:
            return Found(
                None,
                "somebody else's software has set it up, and not Docker, whose device would be in its "
                f"sandbox; if tasks are rejected because of it: `ip link delete {identity.name}`",
            )
        idle = self.clock.idle(identity)
        if idle is None:
            return Found(None, "it carried something at the last look", JOIN_PAUSE_SECONDS)
        grace = self.grace if identity.netns.is_host else self.sandbox_grace
        if idle.seconds < grace:
            left = min(grace, self.patience) - idle.seconds
            return Found(
                None,
                f"for {idle.seconds:.0f} s so far; `--fix` removes it after {grace:g} s",
                left if left > 0 else None,
            )
        if self.joins:
            return join_under_way(self.joins)
        said = ""
        network = networks.having(identity.vni)
        if network is not None and not identity.netns.is_host:
            attached = self.attached(network)
            if isinstance(attached, str):
                return Found(None, f"dockerd may be held up in the middle of a join: {attached}")
            if attached:
                return Found(
                    None,
                    f"dockerd says that network {network.name} has containers here: "
                    + ", ".join(attached[:_MAX_NAMES]),
                )
            said = f"; dockerd says that network {network.name} has no container here"
        return Found(
            Proof.BY_HAND,
            f"idle since {format_time(idle.since)}, for the grace period of {grace:g} s and "
            f"more; no join is under way{said}",
        )


def _scan(options: argparse.Namespace, kernel: Kernel) -> int:
    docker = _Docker(options.docker_socket)
    port, assumed = _data_path_port(options.data_path_port, docker, kernel)
    known = Networks.of(None, docker.networks, port)
    view, judgements = _settled(kernel, known, docker, options)
    orphans = [each for each in judgements if each.verdict is Verdict.ORPHAN]
    gone: set[Identity] = set()
    if orphans and options.fix:
        run_id = uuid4()
        outcomes = remove(orphans, kernel, _Screen(), run_id, port, _as_joins)
        devices = kernel.look().devices
        _Screen().append(verify(outcomes.values(), devices))
        gone = {each.device.identity for each in orphans} - {each.identity for each in devices}
    files = kernel.sandbox_files()
    rows = [_row(each, each.device.identity in gone, files) for each in judgements]
    if options.output == "json":
        _print_json(view, rows)
    else:
        _print_table(view, rows)
    if assumed and _tell_of_other_ports(view.devices, port):
        return CANNOT_LOOK
    left = [
        each
        for each in judgements
        if each.verdict in (Verdict.ORPHAN, Verdict.SETTLING) and each.device.identity not in gone
    ]
    return ORPHANS if left else CLEAN


def _remove_one(kernel: Kernel, netns: Netns, ifindex: int) -> int:
    """Remove the device that a person has named; nothing else is looked at."""
    device = kernel.read(netns, ifindex)
    if device is None:
        raise OperatorError(
            f"there is no VXLAN device with ifindex {ifindex} in {netns}",
            "`vxlan-worker scan -o json` lists those that there are",
        )
    foreign = why_foreign(device, device.identity.port)
    if foreign is not None:
        raise OperatorError(
            f"{device.identity} is not Docker's: {foreign}", "remove it by what has made it"
        )
    run_id = uuid4()
    carrying = device.carrying or "it carries nothing"
    words = f"a person has named it ({carrying})"
    named = Judgement(device, Verdict.ORPHAN, words, Urgency.UNKNOWN, proof=Proof.BY_HAND)
    outcomes = remove([named], kernel, _Screen(), run_id, device.identity.port, _as_joins)
    left = kernel.look_at(netns)
    _Screen().append(verify(outcomes.values(), left))
    return ORPHANS if device.identity in {each.identity for each in left} else CLEAN


def _as_joins(pairs: Iterable[VethPair]) -> Joins:
    """Each pair counts: one scan cannot tell which was left behind."""
    return dict.fromkeys(pairs, 0.0)


class _Docker:
    """What dockerd's socket tells, if it answers."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.networks: Sequence[NetworkRef] = ()
        self.port: int | None = None
        if not socket.exists():
            return
        try:
            self.networks = overlay_networks(socket)
            self.port = data_path_port(socket)
        except OSError as error:
            sys.stderr.write(f"note: no network names: {error}\n")

    def attached(self, network: NetworkRef) -> Sequence[str] | str:
        """Names of a network's containers here; or in words why dockerd did not say."""
        try:
            return attached_containers(self._socket, network.id)
        except OSError as error:
            return str(error)


def _data_path_port(given: int | None, docker: _Docker, kernel: Kernel) -> tuple[int, bool]:
    """The Swarm's UDP port, and whether that is only assumed.

    A worker node's dockerd does not tell it; but a sandbox with a container in it has a device of it.
    """
    if given is not None or docker.port is not None:
        return given or docker.port or _DEFAULT_DATA_PATH_PORT, False
    ports = {
        device.identity.port
        for device in kernel.look().devices
        if not device.identity.netns.is_host
        and device.endpoints
        and why_foreign(device, device.identity.port) is None
    }
    if len(ports) == 1:
        return ports.pop(), False
    return _DEFAULT_DATA_PATH_PORT, True


def _tell_of_other_ports(devices: Iterable[Device], port: int) -> bool:
    """Say so if devices would be Docker's on another port than the one that is assumed."""
    others = sorted(
        {
            each.identity.port
            for each in devices
            if each.identity.port != port and why_foreign(each, each.identity.port) is None
        }
    )
    if others:
        names = ", ".join(map(str, others))
        sys.stderr.write(
            f"error: the Swarm's data path port is not known here, and {port} is assumed; devices that look "
            f"like Docker's have UDP port {names}\n"
            f"hint: `docker info` on a manager tells it; run this again with --data-path-port {others[0]}\n"
        )
    return bool(others)


def _settled(
    kernel: Kernel, networks: Networks, docker: _Docker, options: argparse.Namespace
) -> tuple[View, list[Judgement]]:
    """Look until everything that carries nothing has done so for long enough."""
    host = options.grace_seconds or _GRACE_SECONDS
    sandbox = options.grace_seconds or _SANDBOX_GRACE_SECONDS
    longest = max(host, sandbox)
    clock = IdleClock(believed_gap=longest + _MAX_PAUSE_SECONDS)
    prover = _ByHand(
        clock=clock,
        grace=host,
        sandbox_grace=sandbox,
        # Who only looks is not kept waiting.
        patience=longest if options.fix else host,
        joins={},
        attached=docker.attached,
    )
    deadline = time.monotonic() + _MAX_WAIT_SECONDS * prover.patience
    first: frozenset[Identity] | None = None
    with _Progress() as progress:
        while True:
            view = kernel.look()
            clock.saw(view.devices)
            judgements = judge_minding_joins(
                view.devices,
                networks,
                lambda joins: replace(prover, joins=joins),
                lambda: _as_joins(kernel.joins_under_way()),
            )
            waiting = {
                each.device.identity: each.again for each in judgements if each.again is not None
            }
            # What begins to settle during the wait is told as settling, and not waited for.
            first = frozenset(waiting) if first is None else first & waiting.keys()
            if not first or time.monotonic() >= deadline:
                return view, judgements
            progress.show(sorted(first, key=str), max(waiting[each] for each in first))
            time.sleep(min(_MAX_PAUSE_SECONDS, *(waiting[each] for each in first)))


class _Progress:
    """What is waited for and for how long still, on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def show(self, devices: Sequence[Identity], left: float) -> None:
        """Show what is waited for."""
        if not sys.stderr.isatty():
            return
        names = ", ".join(f"{each.name} in {each.netns}" for each in devices[:_MAX_NAMES])
        more = len(devices) - _MAX_NAMES
        sys.stderr.write(
            f"\r\033[Kwaiting up to {left:.0f} s more, whether something joins: {printable(names)}"
            + (f" and {more} more" if more > 0 else "")
        )
        sys.stderr.flush()
        self._shown = True


def _row(judgement: Judgement, removed: bool, files: Mapping[int, str]) -> dict[str, object]:
    """What is told of one device; the names are a promise to those who script against them."""
    identity = judgement.device.identity
    network = judgement.network
    return {
        "device": identity.name,
        "ifindex": identity.ifindex,
        "netns": str(identity.netns),
        "netns_file": None if identity.netns.nsid is None else files.get(identity.netns.nsid),
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
    json.dump({"devices": rows, "limitations": view.limitations}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_table(view: View, rows: Sequence[dict[str, object]]) -> None:
    for limit in view.limitations:
        sys.stdout.write(f"Attention: {limit}\n")
    if not rows:
        sys.stdout.write("This node has no VXLAN devices.\n")
        return
    cells = [_COLUMNS] + [
        tuple(
            printable(str(cell))
            for cell in (
                row["device"],
                with_file(row["netns"], row["netns_file"]),
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


def _one(text: str) -> tuple[Netns, int]:
    netns, _, ifindex = text.rpartition("#")
    if not re.fullmatch(r"host|nsid:[0-9]{1,9}", netns) or not re.fullmatch(
        "[1-9][0-9]{0,8}", ifindex
    ):
        raise argparse.ArgumentTypeError("must be like host#7 or nsid:4#11")
    return Netns.parse(netns), int(ifindex)


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
