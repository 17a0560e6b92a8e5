"""Builds the lab's namespaces, cables and mounts; runs inside the lab, in its init.

The lab's own network namespace is the hub: a bridge, and one cable to each node. A node is three
namespaces (network, mount, UTS) held by a process that sleeps, so that its dockerd can be killed
and started again while the node stays, as on a real host. (Files could hold them too, but a mount
namespace cannot always be bound to a file: Linux 6.18 was seen to refuse it at random.)
"""

import subprocess
from pathlib import Path

from .command import Argument, run
from .errors import LabError
from .folder import Folder
from .spec import HUB_ADDRESS, HUB_BRIDGE, NODE_INTERFACE, NodeSpec, Spec
from .wait import wait_until


def build_hub(folder: Folder) -> None:
    _check_vxlan()
    _ip(
        "link set lo up",
        f"link add {HUB_BRIDGE} type bridge",
        f"address add {HUB_ADDRESS}/24 dev {HUB_BRIDGE}",
        f"link set {HUB_BRIDGE} up",
    )
    run(["mount", "-t", "tmpfs", "-o", "mode=0755", "lab", folder.private])


def build_node(node: NodeSpec, spec: Spec, folder: Folder) -> int:
    """Build one node; returns the process id of what holds its namespaces."""
    holder = _hold_namespaces()
    run(["nsenter", f"--target={holder}", "--uts", "hostname", node.name])
    _connect(node, holder)
    _mount(node, holder, spec, folder)
    return holder


def enter(holder: int) -> list[str]:
    """The command that runs what follows it in a node's namespaces."""
    return ["nsenter", f"--target={holder}", "--net", "--mount", "--uts", "--"]


def _check_vxlan() -> None:
    try:
        _ip("link add probe type vxlan id 1 dstport 4789", "link delete probe")
    except LabError as error:
        raise LabError(
            f"the kernel makes no VXLAN device, try `modprobe vxlan`: {error}"
        ) from error


def _hold_namespaces() -> int:
    program = "sleep"
    process = subprocess.Popen(["unshare", "--net", "--mount", "--uts", program, "infinity"])
    # Once it is no longer `unshare` but what that starts, it is in its new namespaces.
    name = Path(f"/proc/{process.pid}/comm")
    wait_until(
        lambda: name.read_text().strip() == program, 10, "a node's namespaces", interval=0.002
    )
    return process.pid


def _connect(node: NodeSpec, holder: int) -> None:
    _ip(
        f"link add {node.hub_port} type veth peer name {NODE_INTERFACE} netns {holder}",
        f"link set {node.hub_port} master {HUB_BRIDGE} up",
    )
    _ip(
        "link set lo up",
        f"address add {node.address}/24 dev {NODE_INTERFACE}",
        f"link set {NODE_INTERFACE} up",
        # dockerd advertises the address of the default route.
        f"route add default via {HUB_ADDRESS}",
        inside=["nsenter", f"--target={holder}", "--net", "--"],
    )


def _mount(node: NodeSpec, holder: int, spec: Spec, folder: Folder) -> None:
    """Give the node files of its own, so that its dockerd changes none of the machine's.

    A tmpfs becomes the node's /run; dockerd's data is there too. What dockerd or its containerd
    change elsewhere goes to overlays that are kept in the same tmpfs. The lab's folder shows
    through at its usual path: dockerd's socket is made there. With another engine, its root
    folder becomes the root of the node's mount namespace.
    """
    inside = enter(holder)
    root = Path(spec.engine or "/")
    staging = folder.private / node.name
    shown = staging / folder.path.relative_to("/run")

    def mount(*args: Argument) -> None:
        run([*inside, "mount", *args])

    staging.mkdir()
    mount("-t", "tmpfs", "-o", "mode=0755", node.name, staging)
    run([*inside, "mkdir", "-p", staging / "containerd", shown])
    mount("--bind", folder.path, shown)

    # An overlay of "/" would lack the file systems mounted below it.
    for number, written in enumerate([root] if spec.engine else [root / "etc", root / "opt"]):
        upper, work = staging / f"changes{number}/upper", staging / f"changes{number}/work"
        run([*inside, "mkdir", "-p", upper, work])
        layers = f"lowerdir={written},upperdir={upper},workdir={work}"
        mount("-t", "overlay", "-o", layers, node.name, written)
    # No name server is there. Saying so spares each image look-up a wait of 20 s for an answer.
    # Removed first: it may be a link to a file in the machine's /run.
    run([*inside, "rm", "-f", root / "etc/resolv.conf"])
    run([*inside, "tee", root / "etc/resolv.conf"], stdin="nameserver 127.0.0.1\n")

    if spec.engine:
        for shared in ("proc", "sys", "dev"):
            mount("--rbind", f"/{shared}", root / shared)
    mount("--rbind", staging, root / "run")
    if spec.engine:
        # As switch_root does: whoever enters the namespace is in this root from now on. A chroot would
        # not do, for runc's pivot_root then leaves the machine's root as that of a container's namespace,
        # and that is what `docker exec` and health checks get, which enter it later.
        mount("--move", root, "/")


def _ip(*lines: str, inside: list[str] | None = None) -> None:
    run([*(inside or []), "ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
