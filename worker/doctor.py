"""`vxlan-worker doctor`: what this node's worker needs, checked without a controller."""

import argparse
import platform
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from contract.runtime.acl import node_user
from contract.runtime.broker_settings import BrokerSettings
from contract.runtime.dockerd import Docker
from contract.runtime.doctor import broker, checks, docker, machine
from contract.runtime.doctor.checks import Result, fail, ok, warn
from contract.runtime.exit_status import ExitStatus
from contract.runtime.logs import configure_logging
from contract.runtime.password_file import read_password
from worker import capabilities
from worker.journal_path import BY_DEFAULT, given_journal, journal_path
from worker.options import Parser
from worker.ports import DEFAULT_DATA_PATH_PORT
from worker.trust import Paths
from worker.udp_port import holders

_MIN_KERNEL: Final = (3, 16)
"""Overlay networks need it (moby libnetwork drivers/overlay)."""


class DoctorSettings(BrokerSettings):
    """The settings of `vxlan-worker run` that can be checked; none is required."""

    node_id: Annotated[str, StringConstraints(pattern=r"^([0-9a-z]{25})?$")] = Field(
        "", description="Swarm id of this node; compared with dockerd's"
    )
    journal: Path = Field(BY_DEFAULT, description="the worker's journal")


def parser() -> Parser:
    """Make the parser of the options."""
    options = Parser(
        prog="vxlan-worker doctor",
        description="Check what the worker on this node needs. Changes nothing.",
        epilog="exit status: 0 all is well, 1 the checks could not run, 3 something needs attention",
    )
    options.add_settings(DoctorSettings)
    add = options.add_argument
    add("--docker-host", default="unix:///var/run/docker.sock", help="dockerd's API on this node")
    add("-o", "--output", choices=("table", "json"), default="table", help="form of output")
    return options


def doctor(options: argparse.Namespace) -> ExitStatus:
    """Check everything, and print the results."""
    configure_logging(level="error")
    given = {
        name: value for name, value in vars(options).items() if name in DoctorSettings.model_fields
    }
    settings = DoctorSettings.load(given)
    host = Docker(options.docker_host)
    journal = journal_path(given_journal(settings))
    results = checks.run(
        {
            "version": lambda: machine.versions("vxlan-worker"),
            "capability": _capabilities,
            "kernel": _kernel,
            "namespaces": _namespaces,
            "docker": lambda: docker.check(host, manager=False, node_id=settings.node_id or None),
            "data path": lambda: _data_path(host),
            "broker": lambda: _broker(settings),
            "keys": lambda: _keys(settings.journal),
            "journal": lambda: machine.folder("journal", journal, private=True),
        }
    )
    (checks.show_json if options.output == "json" else checks.show)(results)
    return checks.status(results)


def _broker(settings: DoctorSettings) -> Iterator[Result]:
    """Check the broker, by this node's own user where it should have one."""
    given = settings.broker()
    if not given.acl:
        yield from broker.check(given)
        return
    password = read_password(Paths(settings.journal).password)
    if password is None or not settings.node_id:
        yield from broker.check(given, probe=False)
        hint = "start the worker; set VXLAN_OPERATOR_NODE_ID (or --node-id) for this check"
        yield warn("broker user", "whether this node's own user of Redis works is unknown", hint)
        return
    yield from broker.check(given.of(node_user(settings.node_id), password), probe=False)


def _capabilities() -> Iterator[Result]:
    held = capabilities.effective()
    hint = "run it as root, or with --cap-add NET_ADMIN --cap-add NET_BROADCAST"
    if not held >> capabilities.NET_ADMIN & 1:
        message = "CAP_NET_ADMIN is missing: no device can be read in full, or removed"
        yield fail("capability", message, capabilities.why_missing() or hint)
    elif not held >> capabilities.NET_BROADCAST & 1:
        message = "CAP_NET_BROADCAST is missing: changes in other namespaces are seen only by runs"
        yield warn("capability", message, hint)
    else:
        yield ok("capability", "CAP_NET_ADMIN and CAP_NET_BROADCAST")


def _kernel() -> Iterator[Result]:
    release = platform.release()
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < _MIN_KERNEL:
        yield fail("kernel", f"Linux {release} is older than 3.16", "upgrade the kernel")
        return
    modules = Path("/lib/modules") / release
    listed = any(
        "/vxlan.ko" in file.read_text(errors="replace")
        for name in ("modules.builtin", "modules.dep")
        if (file := modules / name).is_file()
    )
    if listed or Path("/sys/module/vxlan").exists():
        yield ok("kernel", f"Linux {release}, with VXLAN")
    elif modules.is_dir():
        message = f"Linux {release} has no module vxlan: `operation not supported` is its error"
        yield fail("kernel", message, "install the kernel's extra modules, then `modprobe vxlan`")
    else:
        message = f"Linux {release}; whether it has VXLAN cannot be seen from here"
        yield warn("kernel", message, "`modprobe vxlan` on the node, outside the container")


def _namespaces() -> Iterator[Result]:
    from contract.runtime.errors import OperatorError
    from worker.kernel.api import KernelError

    try:
        from worker.access import open_kernel
    except ImportError as error:
        yield fail("namespaces", str(error), "pip install 'vxlan-operator[worker]'")
        return
    try:
        with closing(open_kernel()) as kernel:
            view = kernel.look()
    except OperatorError as error:
        yield fail("namespaces", error.problem, error.hint)
        return
    except KernelError as error:
        yield fail("namespaces", str(error), "run it again; see the kernel's log")
        return
    namespaces = {device.identity.netns for device in view.devices}
    message = f"{len(view.devices)} VXLAN device(s) in {len(namespaces)} namespace(s)"
    for limitation in view.limitations:
        yield warn("namespaces", limitation, "see the kernel's version and log")
    if not view.limitations:
        yield ok("namespaces", message)


def _keys(journal: Path) -> Iterator[Result]:
    """Check the files of keys beside the journal."""
    from contract.runtime.errors import OperatorError
    from contract.runtime.key_file import read_key
    from contract.signing.keys import PublicKey
    from worker.trust import Paths, read_trust

    paths = Paths(journal)
    try:
        own, trusted = read_key(paths.key), read_trust(paths).controllers
    except OperatorError as error:
        yield fail("keys", error.problem, error.hint)
        return
    if own is None:
        yield ok("keys", "none yet: the first start makes one, and needs a join token")
        return
    if not trusted:
        hint = "set VXLAN_OPERATOR_JOIN_TOKEN_FILE: `vxctl node join-token create` prints a token"
        yield fail("keys", "no key of the controllers is known here", hint)
    for file in (paths.key, paths.previous, paths.trust, paths.heard):
        yield from machine.private("keys", file)
    if paths.previous.exists():
        message = "the controllers have not said that they believe the key of the last rotation"
        yield warn("keys", message, "restart the worker; `vxctl node keys` shows what waits")
    controllers = ", ".join(PublicKey.from_text(text).id for text in trusted)
    yield ok("keys", f"this node's is {own.public.id}, the controllers' {controllers or 'unknown'}")


def _data_path(dockerd: Docker) -> Iterator[Result]:
    """Check that no program has the UDP port of the Swarm's VXLAN devices, and that this is the host."""
    known = docker.data_path_port(dockerd)
    port = known or DEFAULT_DATA_PATH_PORT
    name = f"UDP {port}" if known else f"UDP {port} (assumed: only a manager knows it)"
    found = holders(port)
    if found.programs:
        message = f"{', '.join(found.programs)} has {name}: Docker can make no VXLAN device"
        yield fail("data path", message, f"`ss -lunp sport = :{port}` shows it; stop it")
    elif found.bound and not found.all_seen and not _has_device(port):
        message = (
            f"{name} is in use, and whether by VXLAN devices or by a program cannot be seen here"
        )
        hint = f"run it as root outside a container, or look there: `ss -lunp sport = :{port}`"
        yield warn("data path", message, f"{hint} names no process where all is well")
    else:
        by = "is used by VXLAN devices alone" if found.bound else "is not held by another program"
        yield ok("data path", f"{name} {by}")
    # Not from /sys, which shows the network namespace that it was mounted in.
    if known and "docker_gwbridge" not in (name for _, name in socket.if_nameindex()):
        message = "there is no docker_gwbridge here: this is not the host's network namespace"
        yield warn("host network", message, "run the worker with --network host")


def _has_device(port: int) -> bool:
    """Whether a VXLAN device that is up has the port: the kernel shares it with no program."""
    from contract.runtime.errors import OperatorError
    from worker.kernel.api import KernelError

    try:
        from worker.access import open_kernel

        with closing(open_kernel()) as kernel:
            devices = kernel.look().devices
    except (ImportError, OperatorError, KernelError):
        return False
    return any(
        device.up and not device.born_elsewhere and device.identity.port == port
        for device in devices
    )
