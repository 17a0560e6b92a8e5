"""The command `python -m tests.lab`: a lab for a person to play with."""

import argparse
import os
import shlex
import socket
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from . import engine, folder
from .errors import LabError
from .lab import Lab
from .node import Node
from .spec import HUB_ADDRESS, IMAGE

_PROGRAM = "python -m tests.lab"
_DEFAULT_NAME = "demo"


def up(arguments: argparse.Namespace) -> None:
    hours = timedelta(hours=arguments.hours)
    lab = Lab.create(
        arguments.name, nodes=arguments.nodes, engine=arguments.engine, keep=True, lifetime=hours
    )
    print(f"The lab {lab.name} is up for {hours}: a Swarm of {len(lab.nodes)} nodes.\n")
    status(arguments)
    name = "" if lab.name == _DEFAULT_NAME else f" --name {lab.name}"
    print(
        textwrap.dedent(f"""
        To use it, for instance (every node has the image {IMAGE}, a busybox that sleeps):

          export DOCKER_HOST={lab.manager.docker_host}
          docker network create --driver overlay net1
          docker service create --detach --no-resolve-image --network net1 --name web {IMAGE}
          {_PROGRAM} exec{name} node1 ip link
          {_PROGRAM} leak{name} node2 net1

        A process started with `{_PROGRAM} exec{name} hub COMMAND` reaches every node, and
        every node reaches it at {HUB_ADDRESS}. To end the lab:

          {_PROGRAM} down{name}""")
    )


def down(arguments: argparse.Namespace) -> None:
    Lab.attach(arguments.name).destroy()
    print(f"The lab {arguments.name} is gone.")


def list_labs(_: argparse.Namespace) -> None:
    for found in folder.alive():
        spec = found.spec()
        held = "kept" if spec.keep else "owned by a process"
        print(f"{spec.name}\t{spec.node_count} nodes\t{held}\t{found.path}")


def status(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    for node in lab.nodes:
        ended = node.dockerd_exit_status()
        state = "runs" if ended is None else f"ended with status {ended}"
        print(f"{node.name}  {node.address}  dockerd {state}  {node.docker_host}")
    print(f"engine: {lab.spec.engine or 'of this machine'}; logs: {lab.folder}")
    print(f"ends itself in {timedelta(seconds=round(lab.seconds_left()))}")


def execute(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    hub = arguments.node == "hub"
    entry = lab.hub if hub else lab.node(arguments.node).entry(inside=arguments.inside)
    _become(entry.command(_words(arguments)))


def docker(arguments: argparse.Namespace) -> None:
    _become(_node(arguments).docker_command(*_words(arguments)))


def forward(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    here = arguments.here or arguments.port
    try:
        listening = socket.create_server(("127.0.0.1", here))
    except OSError as error:
        raise LabError(
            f"cannot listen on 127.0.0.1:{here}: {error.strerror}; try --here"
        ) from error
    listening.set_inheritable(True)
    print(f"127.0.0.1:{here} leads to 127.0.0.1:{arguments.port} of the lab, until Ctrl-C")
    program = [sys.executable, "-m", f"{__package__}.forward"]
    _become(lab.hub.command([*program, str(listening.fileno()), str(arguments.port)]))


def leak(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    node, network = lab.node(arguments.node), lab.network(arguments.network)
    leaked = lab.leak(node, network, arguments.service)
    device = leaked.device
    print(
        f"{device.name} (VNI {device.vni}, ifindex {device.ifindex}) was left on {node.name} "
        f"by Docker itself, at attempt {leaked.attempts}."
    )


def plant_orphan(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    device = lab.plant_orphan(lab.node(arguments.node), lab.network(arguments.network))
    print(f"{device.name} (VNI {device.vni}, ifindex {device.ifindex}) is on {device.node.name}.")


def plant_hidden(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    device = lab.plant_hidden(lab.node(arguments.node), lab.network(arguments.network))
    print(
        f"A device of {device.network.name} is hidden on {device.node.name}, for as long as the lab lives."
    )
    print(f"To look at it: nsenter --net={device.held.path} ip -d link")


def make_engine(arguments: argparse.Namespace) -> None:
    version = engine.make(arguments.suite, arguments.root.resolve(), arguments.mirror)
    print(f"{arguments.root}: {version}")


def _words(arguments: argparse.Namespace) -> list[str]:
    """The command to run, without the `--` that may set it off from our own options."""
    words: list[str] = arguments.command
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        raise LabError("say what to run: it is missing")
    return words


def _node(arguments: argparse.Namespace) -> Node:
    return Lab.attach(arguments.name).node(arguments.node)


def _on_node(action: Callable[[Node], None]) -> Callable[[argparse.Namespace], None]:
    return lambda arguments: action(_node(arguments))


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise LabError(f"cannot run `{shlex.join(command)}`: {error}") from error


_NODE_ACTIONS: dict[str, tuple[str, Callable[[Node], None]]] = {
    "cut": ("cut a node off from the others", Node.cut),
    "reconnect": ("undo `cut`", Node.reconnect),
    "kill-dockerd": ("SIGKILL a node's dockerd", Node.kill_dockerd),
    "stop-dockerd": ("stop a node's dockerd in an orderly way", Node.stop_dockerd),
    "start-dockerd": ("start it again", Node.start_dockerd),
    "restart-dockerd": ("stop it and start it again", Node.restart_dockerd),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Boots several real dockerds on this machine as one Swarm. Needs root.",
        epilog=f"`{_PROGRAM} COMMAND --help` tells more about one command.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, purpose: str, run: Callable[[argparse.Namespace], None], *, node: bool = False
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
        )
        command.set_defaults(run=run)
        if name not in ("list", "engine"):
            command.add_argument(
                "--name", default=_DEFAULT_NAME, help="the lab's name (default: %(default)s)"
            )
        if node:
            command.add_argument("node", metavar="NODE", help="node1, node2, ...")
        return command

    command = add("up", "boot a lab that stays until `down`", up)
    command.add_argument("--nodes", type=int, default=3, help="how many (default: %(default)s)")
    command.add_argument("--engine", type=Path, metavar="DIR", help="made with `engine`")
    command.add_argument(
        "--hours", type=float, default=4, help="how long it lives at most (default: %(default)s)"
    )
    add("down", "end a lab and remove all of it", down)
    add("list", "name the labs that run", list_labs)
    add("status", "show the nodes of a lab", status)

    command = add(
        "exec", "run a command in the network namespace of NODE, or of `hub`", execute, node=True
    )
    command.add_argument(
        "--inside", action="store_true", help="also in the node's mounts and PID namespace"
    )
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    command = add("docker", "run the docker client on a node's dockerd", docker, node=True)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="ARGUMENT ...")

    command = add(
        "forward", "show a port of the hub's loopback on this machine's own loopback", forward
    )
    command.add_argument("port", type=int, metavar="PORT", help="8479: the dashboard and the API")
    command.add_argument("--here", type=int, metavar="PORT", help="the port here (default: PORT)")

    command = add(
        "leak", "make a node's dockerd leave an orphaned VXLAN device behind", leak, node=True
    )
    command.add_argument("network", metavar="NETWORK", help="an overlay network, by name or id")
    command.add_argument(
        "--service",
        help="has all tasks of the network on the node, and is scaled to 0 (default: one made for it)",
    )
    command = add(
        "plant-orphan", "leave an orphaned VXLAN device on a node", plant_orphan, node=True
    )
    command.add_argument("network", metavar="NETWORK", help="an overlay network, by name or id")
    command = add(
        "plant-hidden",
        "leave a VXLAN device on a node in a namespace without a name",
        plant_hidden,
        node=True,
    )
    command.add_argument("network", metavar="NETWORK", help="one with a task running on the node")
    for name, (purpose, action) in _NODE_ACTIONS.items():
        add(name, purpose, _on_node(action), node=True)

    command = add("engine", "make another engine's root folder with debootstrap", make_engine)
    command.add_argument("suite", metavar="SUITE", help="a Debian release, such as trixie or sid")
    command.add_argument("root", type=Path, metavar="DIR", help="where to make it")
    command.add_argument("--mirror", help="a Debian archive (default: the one apt uses here)")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except LabError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
