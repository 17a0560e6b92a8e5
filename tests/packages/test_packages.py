"""Both packages on machines of their own: installed, run as services, upgraded, removed and purged.

One story a release of Debian, in the order of the tests; they share a machine.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contract import VERSION
from tests.builders import NAME, VNI
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import DOCKERS_FLAGS
from tests.integration.test_units import MAX_EXPOSURE
from tests.packages.conftest import DIST
from tests.packages.machine import Machine
from tests.servers import await_true

PACKAGING = Path(__file__).parents[2] / "packaging"
PROGRAMS = {"worker": "vxlan-worker", "controller": "vxctl"}
UNITS = ("vxlan-worker.service", "vxlan-controller.service")
WORKER, CONTROLLER = UNITS
STATE = "/var/lib/vxlan-worker"
RPM_LINE = r"[%{FILENAMES} %{FILEMODES:octal} %{FILEFLAGS:fflags}\n]"
TOKEN = ("--token-file", "/var/lib/vxlan-operator/api-token")


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    """The files before anything was installed; also in later tests of the story."""
    return machine.files()


@pytest.fixture(scope="module")
def servers(machine: Machine) -> Iterator[None]:
    """A Redis and a manager's Docker, as the machine's own."""
    machine.run("groupadd", "docker")
    socket = Path(f"/proc/{machine.pid}/root/run/docker.sock")
    redis = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with ExitStack() as stack:
        server = subprocess.Popen(
            ["nsenter", "--target", str(machine.pid), "--net", "--", *redis],
            stdout=subprocess.DEVNULL,
        )
        stack.callback(server.wait, 60)
        stack.callback(server.kill)
        stack.enter_context(FakeDocker(socket, snapshot("one")))
        machine.run("chmod", "666", "/run/docker.sock")
        yield


def deb(kind: str) -> str:
    """The path of a package on the machine."""
    (file,) = DIST.glob(f"vxlan-operator-{kind}_*.deb")
    return f"/root/{file.name}"


def vxctl(machine: Machine, *arguments: str) -> str:
    return machine.run("vxctl", *arguments, *TOKEN)


def active(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit, check=False).strip()


def log(machine: Machine, unit: str) -> str:
    return machine.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)


def test_they_are_installed_and_wait_for_their_settings(machine: Machine, before: set[str]) -> None:
    printed = machine.run("dpkg", "--install", deb("worker"), deb("controller"))
    for kind, unit in zip(PROGRAMS, UNITS, strict=True):
        name = unit.removesuffix(".service")
        assert f"Set /etc/vxlan-operator/{kind}.env, then: systemctl enable --now {name}" in printed
        assert active(machine, unit) == "inactive"
        settings = machine.run("stat", "--format", "%a %U %G", f"/etc/vxlan-operator/{kind}.env")
        assert settings == "640 root root\n"
    assert machine.run("dpkg", "--verify") == ""


@pytest.mark.parametrize("program", PROGRAMS.values())
def test_the_programs_run(machine: Machine, program: str) -> None:
    assert machine.run(program, "--version") == f"{program} {VERSION}\n"
    assert machine.run("gzip", "--test", f"/usr/share/man/man1/{program}.1.gz") == ""


def test_the_controllers_package_has_alert_rules_and_dashboard(machine: Machine) -> None:
    for source in ("prometheus/vxlan-operator.rules.yml", "grafana/vxlan-operator.json"):
        installed = f"/usr/share/vxlan-operator/{Path(source).name}"
        assert machine.path(installed).read_bytes() == (PACKAGING / source).read_bytes()
        owner = machine.run("dpkg", "--search", installed)
        assert owner == f"vxlan-operator-controller: {installed}\n"


def test_an_option_of_every_verb_is_known(machine: Machine) -> None:
    """The bundle has the modules that are imported by name."""
    for verb in ("run", "scan", "doctor", "key"):
        assert machine.run("vxlan-worker", verb, "--help").startswith("usage: ")
    for verb in (
        "controller",
        "up",
        "status",
        "get",
        "audit",
        "explain",
        "plan",
        "keys",
        "token",
        "db",
    ):
        assert "Usage: vxctl" in machine.run("vxctl", verb, "--help")


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_thinks_well_of_the_units(machine: Machine, unit: str) -> None:
    assert machine.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{unit}") == ""
    rated = machine.run("systemd-analyze", "security", "--no-pager", unit, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rated)
    assert found is not None, rated
    assert float(found[1]) < MAX_EXPOSURE


def test_without_a_setting_a_service_fails_once_and_says_why(machine: Machine) -> None:
    settings = f"VXLAN_OPERATOR_NODE_ID={swarm_id('one')}\n"
    machine.run("tee", "-a", "/etc/vxlan-operator/worker.env", words=settings)
    machine.run("systemctl", "start", WORKER)
    await_true(lambda: active(machine, WORKER) == "failed", "it is not started again and again")
    assert "no key of the controllers is known" in log(machine, WORKER)
    machine.run("systemctl", "reset-failed", WORKER)


@pytest.mark.usefixtures("servers")
def test_as_services_they_find_each_other(machine: Machine) -> None:
    machine.run("systemctl", "enable", "--now", CONTROLLER)
    await_true(
        lambda: machine.path("/var/lib/private/vxlan-operator/api-token").exists(),
        "the controller has made its first token",
    )
    token = json.loads(vxctl(machine, "node", "join-token", "create", "-o", "json"))
    settings = f"VXLAN_OPERATOR_JOIN_TOKEN={token['token']}\n"
    machine.run("tee", "-a", "/etc/vxlan-operator/worker.env", words=settings)
    machine.run("systemctl", "enable", "--now", WORKER)
    vxctl(machine, "wait", "node", "one", "--for", "Ready", "--timeout", "60s")
    assert '"event": "worker started"' in log(machine, WORKER)
    assert "\x1b" not in log(machine, WORKER) + log(machine, CONTROLLER)
    user = machine.run("stat", "--format", "%u", f"{STATE}/journal.jsonl")
    assert int(user) > 60_000, "a user of the service's own"


@pytest.mark.usefixtures("servers")
def test_a_scan_beside_the_service_is_in_the_audit_trail(machine: Machine) -> None:
    flags = (*DOCKERS_FLAGS, "dstport", "4789")
    machine.run("systemctl", "stop", CONTROLLER)  # Or it might have the orphan removed first.
    machine.run("ip", "link", "add", NAME, "type", "vxlan", "id", str(VNI), *flags)
    printed = machine.run("vxlan-worker", "scan", "--fix", "--grace-seconds", "0.3")
    assert f"recorded: the worker takes {STATE}/journal.jsonl.scan-" in printed
    machine.run("systemctl", "start", CONTROLLER)

    def recorded() -> bool:
        status, rows = machine.status("vxctl", "audit", "--actor", "scan", "-o", "jsonl", *TOKEN)
        return status == 0 and '"stage":"verified"' in rows.replace(" ", "")

    await_true(recorded, "the audit trail has what the scan removed", pause=1.0)


@pytest.mark.usefixtures("servers")
def test_root_changes_the_key_of_a_service_with_a_user_of_its_own(machine: Machine) -> None:
    _, _, made, *_ = machine.run("vxlan-worker", "key", "rotate").split()
    machine.run("systemctl", "restart", WORKER)
    await_true(
        lambda: made in vxctl(machine, "node", "keys"),
        "the worker introduces its new key",
        pause=1.0,
    )
    assert machine.run("vxlan-worker", "key").split()[1] == made
    # Of a key that was new less than ten minutes ago the next one needs a person.
    vxctl(machine, "node", "trust", "one", made)
    vxctl(machine, "wait", "node", "one", "--for", "Ready", "--timeout", "60s")


@pytest.mark.usefixtures("servers")
def test_an_upgrade_starts_what_ran_again_and_keeps_settings(machine: Machine) -> None:
    def pids() -> list[str]:
        return machine.run("systemctl", "show", "--value", "--property=MainPID", *UNITS).split()

    before = pids()
    printed = machine.run("dpkg", "--install", "--force-confdef", deb("worker"), deb("controller"))
    assert "systemctl enable" not in printed
    assert not set(pids()) & {*before, "0"}
    assert "JOIN_TOKEN=vxj" in machine.run("cat", "/etc/vxlan-operator/worker.env")
    await_true(
        lambda: machine.status("vxctl", "status", *TOKEN)[0] == 0, "all is well again", pause=1.0
    )


def test_removed_they_leave_settings_and_state(machine: Machine) -> None:
    packages = [f"vxlan-operator-{kind}" for kind in PROGRAMS]
    printed = machine.run("dpkg", "--remove", *packages)
    assert f"Left: {STATE} (and /var/lib/private/vxlan-worker)" in printed
    for unit in UNITS:
        assert active(machine, unit) == "inactive"
    left = machine.files()
    assert {"/etc/vxlan-operator/worker.env", STATE} <= left
    assert not [each for each in left if "multi-user.target.wants/vxlan" in each]
    assert not [each for each in left if each.startswith("/usr/") and "vx" in Path(each).name]


def test_purged_they_leave_what_they_name(machine: Machine, before: set[str]) -> None:
    packages = [f"vxlan-operator-{kind}" for kind in PROGRAMS]
    printed = machine.run("dpkg", "--purge", *packages)
    assert "Left: /var/lib/vxlan-operator (and /var/lib/private/vxlan-operator)" in printed
    left = {each for each in machine.files() - before if "/var/lib/dpkg/" not in each}
    named = ("/var/lib/vxlan-operator", "/var/lib/private/vxlan-operator")
    assert [each for each in sorted(left) if "vx" in each and not each.startswith(named)] == []


def test_the_rpm_has_what_the_deb_has(tmp_path: Path) -> None:
    for kind in PROGRAMS:
        (rpm,) = DIST.glob(f"vxlan-operator-{kind}-*.rpm")
        (deb_file,) = DIST.glob(f"vxlan-operator-{kind}_*.deb")
        listed = subprocess.run(
            ["rpm", "-qp", "--nosignature", "--queryformat", RPM_LINE, rpm],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        assert f"/etc/vxlan-operator/{kind}.env 100640 cn" in listed.splitlines()
        of_deb = subprocess.run(
            ["dpkg-deb", "--contents", deb_file], capture_output=True, text=True, timeout=60, check=True
        ).stdout  # fmt: skip
        files = {
            line.split(maxsplit=5)[5].partition(" -> ")[0].removeprefix(".")
            for line in of_deb.splitlines()
            if not line.startswith("d")
        }
        assert files == {
            line.split()[0] for line in listed.splitlines() if not line.split()[1].startswith("4")
        }
