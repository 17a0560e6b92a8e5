"""`vxlan-worker scan`: one look at this node, without broker, database or controller.

For 3 a.m. on a broken node. It knows nothing of desired state or of rejected tasks, so it judges by the
kernel's evidence alone, and a person takes the place of proof (`worker.by_hand`). With a Docker socket in
reach it knows the networks' names, and spares the sandbox of a network that has a container.
"""

import argparse
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from contract.runtime.errors import OperatorError, print_error
from contract.runtime.exit_status import ExitStatus
from contract.runtime.logs import configure_logging
from contract.verdicts import Proof, Urgency, Verdict
from worker.access import open_kernel
from worker.by_hand import ByHand, as_joins
from worker.docker_socket import Dockerd
from worker.idle import IdleClock
from worker.journal_path import journal_path
from worker.judge import Judgement, judge_minding_joins
from worker.kernel.api import Kernel, KernelError
from worker.kernel.model import Device, Identity, Netns, View
from worker.networks import Networks
from worker.options import Parser
from worker.ownership import why_foreign
from worker.ports import DEFAULT_DATA_PATH_PORT, is_dockers_on_any_port, live_ports
from worker.recheck import Recheck
from worker.remove import remove, verify
from worker.scan_journal import MAX_REMOVALS
from worker.scan_output import Progress, Recorder, describe, print_json, print_table

_GRACE_SECONDS: Final = 5.0
_SANDBOX_GRACE_SECONDS: Final = 60.0
"""Longer than a held-up join is likely to take: a scan knows no rejected task that proves a device dead."""
_MAX_PAUSE_SECONDS: Final = 1.0
_MAX_WAIT_FACTOR: Final = 2.0
"""Times the grace period: with joins all the time, what looks dead is reported as settling."""


def parser() -> Parser:
    """Make the parser of the options. None that removes comes from the environment: it is asked for here."""
    options = Parser(
        prog="vxlan-worker scan",
        description="Look at every VXLAN device of this node, once. Needs CAP_NET_ADMIN in the host's "
        "network namespace, and nothing else.",
        epilog="exit status: 0 no device that looks dead is left, 3 one is left, 1 the look failed, "
        "2 wrong usage",
    )
    add = options.add_argument
    add("--fix", action="store_true", help="remove the orphans, and print each removal")
    add(
        "--remove",
        metavar="NETNS#IFINDEX",
        type=_device,
        help="remove this device of Docker's, also if it is in use, for example nsid:4#11; make sure first "
        "that no container needs it",
    )
    add("-o", "--output", choices=("table", "json"), default="table", help="form of output")
    add(
        "--grace-seconds",
        type=_seconds,
        help="seconds that a device must have been idle (default: 5; in a sandbox 60, because a join that "
        "dockerd is held up in looks the same)",
    )
    add(
        "--docker-socket",
        type=Path,
        default=Path("/var/run/docker.sock"),
        help="dockerd's API, for network names; may be missing (default: /var/run/docker.sock)",
    )
    add(
        "--data-path-port",
        type=_port,
        help="the Swarm's UDP port (default: from dockerd or a live sandbox, else 4789)",
    )
    add(
        "--journal",
        type=Path,
        help="the worker's journal, beside which removals are left for it; may be missing (default: "
        "VXLAN_OPERATOR_JOURNAL, or where the worker of this machine has it)",
    )
    return options


def scan(options: argparse.Namespace) -> int:
    """Look, judge, remove if asked to, and print; return the exit status, or raise OperatorError."""
    configure_logging(level="warning")
    with closing(open_kernel()) as kernel:
        try:
            named = options.remove
            return _scan(options, kernel) if named is None else _remove_one(options, kernel, *named)
        except KernelError as error:
            hint = "run it again; if it fails again, see the kernel's log"
            raise OperatorError(str(error), hint) from error


def _scan(options: argparse.Namespace, kernel: Kernel) -> int:
    docker = Dockerd(options.docker_socket)
    port, assumed = _data_path_port(options.data_path_port, docker, kernel)
    known = Networks.of(None, docker.networks, port)
    view, judgements = _settled(kernel, known, docker, options)
    orphans = [judged for judged in judgements if judged.verdict is Verdict.ORPHAN]
    gone: set[Identity] = set()
    if orphans and options.fix:
        found = {orphan.device.identity for orphan in orphans}
        gone = found - _remove(orphans, kernel, port, options.journal)
    files = kernel.sandbox_files()
    rows = [describe(judged, judged.device.identity in gone, files) for judged in judgements]
    (print_json if options.output == "json" else print_table)(view, rows)
    if assumed and _warn_of_other_ports(view.devices, port):
        return ExitStatus.ERROR
    dead = (Verdict.ORPHAN, Verdict.SETTLING)
    left = {judged.device.identity for judged in judgements if judged.verdict in dead} - gone
    return ExitStatus.NO if left else ExitStatus.DONE


def _remove(
    orphans: Sequence[Judgement], kernel: Kernel, port: int, journal: Path | None
) -> set[Identity]:
    """Remove orphans, as many as can be recorded; return the devices that a second look shows."""
    run_id = uuid4()
    with closing(Recorder(journal_path(journal), run_id, named=journal is not None)) as record:
        now = orphans[:MAX_REMOVALS] if record.kept else orphans
        outcomes = remove(now, kernel, record, run_id, Recheck(kernel, port, as_joins))
        devices = kernel.look().devices
        record(verify(outcomes.values(), devices))
    return {device.identity for device in devices}


def _remove_one(options: argparse.Namespace, kernel: Kernel, netns: Netns, ifindex: int) -> int:
    """Remove the device that a person has named."""
    device = kernel.read(netns, ifindex)
    if device is None:
        raise OperatorError(
            f"there is no VXLAN device with ifindex {ifindex} in {netns}",
            "`vxlan-worker scan -o json` lists the devices with netns and ifindex",
        )
    foreign = why_foreign(device, device.identity.port)
    if foreign is not None:
        error = f"{device.identity} is not Docker's: {foreign}"
        raise OperatorError(error, "remove it with the software that made it")
    reason = f"a person has named it ({device.activity or 'idle'})"
    named = Judgement(device, Verdict.ORPHAN, reason, Urgency.UNKNOWN, proof=Proof.BY_HAND)
    left = _remove([named], kernel, device.identity.port, options.journal)
    return ExitStatus.NO if device.identity in left else ExitStatus.DONE


def _data_path_port(given: int | None, docker: Dockerd, kernel: Kernel) -> tuple[int, bool]:
    """Return the Swarm's UDP port, and whether that is only assumed.

    A worker node's dockerd does not report it, but each sandbox with a container has a device with it.
    """
    known = given or docker.port
    if known is not None:
        return known, False
    ports = live_ports(kernel.look().devices)
    if len(ports) == 1:
        return min(ports), False
    return DEFAULT_DATA_PATH_PORT, True


def _warn_of_other_ports(devices: Iterable[Device], port: int) -> bool:
    """Print an error if devices would be Docker's on another port than the assumed one; return whether so."""
    ports = {device.identity.port for device in devices if is_dockers_on_any_port(device)}
    others = sorted(ports - {port})
    if others:
        error = (
            f"the Swarm's data path port is not known here, and {port} is assumed; devices that look like "
            f"Docker's have UDP port {', '.join(map(str, others))}"
        )
        hint = "`docker info` on a manager shows it; run this again with --data-path-port"
        print_error(OperatorError(error, f"{hint} {others[0]}"))
    return bool(others)


def _settled(
    kernel: Kernel, networks: Networks, docker: Dockerd, options: argparse.Namespace
) -> tuple[View, list[Judgement]]:
    """Look until every idle device has been idle for the grace period; return the last look, judged."""
    host = options.grace_seconds or _GRACE_SECONDS
    sandbox = options.grace_seconds or _SANDBOX_GRACE_SECONDS
    longest = max(host, sandbox)
    clock = IdleClock(believed_gap=longest + _MAX_PAUSE_SECONDS)
    prover = ByHand(
        clock=clock,
        grace=host,
        sandbox_grace=sandbox,
        # Without --fix nobody is kept waiting for the longer grace period.
        patience=longest if options.fix else host,
        joins={},
        attached=docker.attached,
    )
    deadline = time.monotonic() + _MAX_WAIT_FACTOR * prover.patience
    first: frozenset[Identity] | None = None
    with Progress() as progress:
        while True:
            view = kernel.look()
            clock.saw(view.devices)
            judgements = judge_minding_joins(
                view.devices,
                networks,
                lambda joins: replace(prover, joins=joins),
                lambda: as_joins(kernel.joins_under_way()),
            )
            waiting = {
                judged.device.identity: judged.recheck_after
                for judged in judgements
                if judged.recheck_after is not None
            }
            # A device that goes idle during the wait is reported as settling, and not waited for.
            first = frozenset(waiting) if first is None else first & waiting.keys()
            if not first or time.monotonic() >= deadline:
                return view, judgements
            progress.show(sorted(first, key=str), max(waiting[device] for device in first))
            time.sleep(min(_MAX_PAUSE_SECONDS, *(waiting[device] for device in first)))


def _device(text: str) -> tuple[Netns, int]:
    netns, _, ifindex = text.rpartition("#")
    if not re.fullmatch(r"(host|nsid:[0-9]{1,9})#[1-9][0-9]{0,8}", text):
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
