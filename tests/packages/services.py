"""Both services of a `Machine`: starting them so that they find each other, and asking them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.packages.machine import Machine
from tests.servers import await_true

PROGRAMS: Final = {"worker": "vxlan-worker", "controller": "vxctl"}
UNITS: Final = ("vxlan-worker.service", "vxlan-controller.service")
WORKER, CONTROLLER = UNITS
TOKEN: Final = ("--token-file", "/var/lib/vxlan-operator/api-token")
SETTINGS: Final = "/etc/vxlan-operator/worker.env"
_ROOT: Final = Path(__file__).parents[2]


@contextmanager
def servers(machine: Machine) -> Iterator[None]:
    """A Redis and a manager's Docker, as the machine's own."""
    machine.run("groupadd", "docker")
    redis = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with ExitStack() as stack:
        server = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("nsenter", "--target", str(machine.pid), "--net", "--", *redis),
            ],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(server.wait, 60)
        stack.callback(server.kill)
        stack.enter_context(FakeDocker(machine.path("/run/docker.sock"), snapshot("one")))
        machine.run("chmod", "666", "/run/docker.sock")
        yield


def introduce(machine: Machine) -> None:
    """Enable and start the controller, and then the worker with its token; wait until the node is ready."""
    machine.run("systemctl", "enable", "--now", CONTROLLER)
    await_true(
        lambda: machine.path("/var/lib/private/vxlan-operator/api-token").exists(),
        "the controller has made its first token",
    )
    token = json.loads(vxctl(machine, "node", "join-token", "create", "-o", "json"))
    configure(machine, f"VXLAN_OPERATOR_JOIN_TOKEN={token['token']}")
    machine.run("systemctl", "enable", "--now", WORKER)
    await_ready(machine)


def configure(machine: Machine, *lines: str) -> None:
    """Append to the worker's settings."""
    machine.run("tee", "-a", SETTINGS, words="".join(f"{line}\n" for line in lines))


def name_node(machine: Machine) -> None:
    """Tell the worker which node of the Swarm it is on."""
    configure(machine, f"VXLAN_OPERATOR_NODE_ID={swarm_id('one')}")


def await_ready(machine: Machine) -> None:
    """Wait until the controller believes and hears the worker."""
    vxctl(machine, "wait", "node", "one", "--for", "Ready", "--timeout", "60s")


def vxctl(machine: Machine, *arguments: str) -> str:
    """Ask the controller as an admin; return what was printed."""
    status, printed = machine.status("vxctl", *arguments, *TOKEN)
    assert status == 0, f"{arguments}: status {status}\n{printed}\n{log(machine, CONTROLLER)}"
    return printed


def state(machine: Machine, question: str, unit: str) -> str:
    """What `systemctl` answers to `is-active` or `is-enabled`."""
    return machine.run("systemctl", question, unit, check=False).strip()


def active(machine: Machine, unit: str) -> str:
    """Whether systemd runs it: `active`, `inactive` or `failed`."""
    return state(machine, "is-active", unit)


def pids(machine: Machine) -> list[str]:
    """Of the main processes of both services."""
    return machine.run("systemctl", "show", "--value", "--property=MainPID", *UNITS).split()


def log(machine: Machine, unit: str) -> str:
    """What it logged."""
    return machine.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)


def newer(kind: str, packager: str, machine: Machine) -> str:
    """Make a newer release of a package, of what `make packages` left; return its path on the machine."""
    recipe = _ROOT / "build/packages" / kind / "nfpm.yaml"
    changed = recipe.with_name("newer.yaml")
    changed.write_text(recipe.read_text().replace('release: "1"', 'release: "2"'))
    target = recipe.with_name(f"newer.{packager}")
    nfpm(changed, packager, target)
    shutil.copy(target, machine.path("/root"))
    inside = f"/root/{kind}.newer.{packager}"
    machine.path(f"/root/{target.name}").rename(machine.path(inside))
    return inside


def nfpm(recipe: Path, packager: str, target: Path) -> None:
    """Make a package."""
    subprocess.run(
        [
            *(_ROOT / ".venv/bin/nfpm", "package", "--config", recipe),
            *("--packager", packager, "--target", target),
        ],
        cwd=_ROOT,
        stdout=subprocess.DEVNULL,
        timeout=300,
        check=True,
    )
