"""Both packages on machines of their own: installed, run as services, upgraded, removed and purged.

One story a release of Debian, in the order of the tests; they share a machine.
"""

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import VERSION
from tests.builders import NAME, VNI
from tests.integration.namespaces import DOCKERS_FLAGS
from tests.integration.test_units import MAX_EXPOSURE
from tests.packages.conftest import DIST
from tests.packages.machine import Machine
from tests.packages.services import (
    CONTROLLER,
    PROGRAMS,
    SETTINGS,
    TOKEN,
    UNITS,
    WORKER,
    active,
    await_ready,
    configure,
    introduce,
    log,
    name_node,
    newer,
    pids,
    servers,
    state,
    vxctl,
)
from tests.servers import await_true

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
STATE = "/var/lib/vxlan-worker"
DOCUMENT = ROOT / "docs/install-packages.md"


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    """The files before anything was installed; also in later tests of the story."""
    return machine.files()


@pytest.fixture(scope="module", name="servers")
def _servers(machine: Machine) -> Iterator[None]:
    with servers(machine):
        yield


def deb(kind: str) -> str:
    """The path of a package on the machine."""
    (file,) = DIST.glob(f"vxlan-operator-{kind}_*.deb")
    return f"/root/{file.name}"


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
    name_node(machine)
    machine.run("systemctl", "start", WORKER)
    await_true(lambda: active(machine, WORKER) == "failed", "it is not started again and again")
    assert "no key of the controllers is known" in log(machine, WORKER)
    machine.run("systemctl", "reset-failed", WORKER)


@pytest.mark.usefixtures("servers")
def test_as_services_they_find_each_other(machine: Machine) -> None:
    configure(machine, "VXLAN_OPERATOR_METRICS_LISTEN=/run/vxlan-worker/metrics.sock")
    introduce(machine)
    assert '"event": "worker started"' in log(machine, WORKER)
    assert "\x1b" not in log(machine, WORKER) + log(machine, CONTROLLER)
    user = machine.run("stat", "--format", "%u", f"{STATE}/journal.jsonl")
    assert int(user) > 60_000, "a user of the service's own"


@pytest.mark.usefixtures("servers")
def test_the_doctors_find_nothing_wrong(machine: Machine) -> None:
    """Nothing that the units take away is missing where a person looks."""
    printed = machine.run("vxlan-worker", "doctor", check=False)
    assert "Traceback" not in printed
    assert machine.status("vxctl", "status", *TOKEN)[0] == 0
    socket = machine.run("stat", "--format", "%F", "/run/vxlan-worker/metrics.sock")
    assert socket == "socket\n"


@pytest.mark.usefixtures("servers")
def test_the_service_sees_and_heals_what_is_in_another_namespace(machine: Machine) -> None:
    """Its sandboxing leaves it netlink, and the view from the host namespace into others."""
    flags = (*DOCKERS_FLAGS, "dstport", "4789")
    machine.run("ip", "netns", "add", "dead")
    machine.run("ip", "link", "add", NAME, "type", "vxlan", "id", str(VNI), *flags)
    machine.run("ip", "link", "set", NAME, "netns", "dead", "name", "vxlan0")
    for words in ("add br0 type bridge", "set vxlan0 master br0 up", "set br0 up"):
        machine.run("ip", "-n", "dead", "link", *words.split())
    await_true(
        lambda: machine.run("ip", "-n", "dead", "-o", "link", "show", "type", "vxlan") == "",
        "the worker removes the orphan in the sandbox",
        pause=1.0,
    )
    rows = vxctl(machine, "audit", "--node", "one", "-o", "jsonl").replace(" ", "")
    assert '"stage":"verified"' in rows


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("unit", UNITS)
def test_a_service_that_is_killed_is_started_again(machine: Machine, unit: str) -> None:
    before = pids(machine)
    machine.run("systemctl", "kill", "--signal=KILL", unit)
    await_true(
        lambda: len(set(pids(machine)) - {*before, "0"}) == 1, f"{unit} runs again", pause=0.5
    )
    await_true(lambda: machine.status("vxctl", "status", *TOKEN)[0] == 0, "all is well", pause=1.0)


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
    await_ready(machine)


@pytest.mark.usefixtures("servers")
def test_an_upgrade_starts_what_ran_again_and_keeps_settings(machine: Machine) -> None:
    before = pids(machine)
    packages = [newer(kind, "deb", machine) for kind in PROGRAMS]
    printed = machine.run("dpkg", "--install", "--force-confdef", *packages)
    assert "systemctl enable" not in printed
    assert not set(pids(machine)) & {*before, "0"}
    assert {state(machine, "is-enabled", unit) for unit in UNITS} == {"enabled"}
    assert "JOIN_TOKEN=vxj" in machine.run("cat", SETTINGS)
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


@pytest.mark.parametrize("kind", PROGRAMS)
def test_it_needs_no_newer_glibc_than_the_documents_say(kind: str) -> None:
    """At least where the build machine's is Debian 12's."""
    if tuple(map(int, platform.libc_ver()[1].split("."))) > (2, 36):
        pytest.skip("built on a newer release than the documents tell to build on")
    said = re.search(r"systemd services \| glibc ([0-9.]+) or newer", DOCUMENT.read_text())
    assert said is not None
    (file,) = DIST.glob(f"vxlan-operator-{kind}_*.deb")
    needs = subprocess.run(
        ["dpkg-deb", "--field", file, "Depends"], capture_output=True, text=True, timeout=60, check=True
    ).stdout  # fmt: skip
    assert needs == f"libc6 (>= {said[1]})\n"
