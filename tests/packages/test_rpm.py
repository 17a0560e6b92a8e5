"""Both `.rpm` on a machine whose packages are rpm's: installed, run as services, upgraded, removed.

One story, in the order of the tests. The machine is a Debian, as others are not to be had everywhere.
So its glibc is a package that is made here, and what only Debian has for systemd is taken away.
"""

import re
import subprocess
from collections.abc import Iterator

import pytest

from contract import VERSION
from tests.integration.namespaces import DOCKERS_FLAGS
from tests.packages.conftest import DIST
from tests.packages.machine import Machine
from tests.packages.services import (
    PROGRAMS,
    SETTINGS,
    TOKEN,
    UNITS,
    WORKER,
    active,
    await_ready,
    introduce,
    log,
    name_node,
    newer,
    nfpm,
    pids,
    servers,
    state,
)
from tests.servers import await_true

STATE = "/var/lib/vxlan-worker"
NAMES = [f"vxlan-operator-{kind}" for kind in PROGRAMS]

pytestmark = pytest.mark.parametrize("machine", ["trixie"], indirect=True)


def rpm(machine: Machine, *arguments: str) -> str:
    """Run rpm; the packages are not signed."""
    return machine.run("rpm", "--nosignature", *arguments)


def built(kind: str) -> str:
    """The path of a package on the machine."""
    (file,) = DIST.glob(f"vxlan-operator-{kind}-*.rpm")
    return f"/root/{file.name}"


@pytest.fixture(scope="module", name="servers")
def _servers(machine: Machine) -> Iterator[None]:
    with servers(machine):
        yield


@pytest.fixture(scope="module")
def before(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files before anything was installed but glibc; also in later tests of the story."""
    machine.run("rm", "/usr/bin/deb-systemd-invoke")
    version = machine.run("getconf", "GNU_LIBC_VERSION").split()[1]
    folder = tmp_path_factory.mktemp("glibc")
    recipe = folder / "nfpm.yaml"
    recipe.write_text(
        f"name: glibc\narch: amd64\nversion: {version}\ndescription: this machine's\n"
        "maintainer: nobody <nobody@example.invalid>\n"
    )
    nfpm(recipe, "rpm", folder / "glibc.rpm")
    machine.path("/root/glibc.rpm").write_bytes((folder / "glibc.rpm").read_bytes())
    rpm(machine, "--install", "/root/glibc.rpm")
    return machine.files()


def test_they_are_installed_and_wait_for_their_settings(machine: Machine, before: set[str]) -> None:
    printed = rpm(machine, "--install", *map(built, PROGRAMS))
    for kind, unit in zip(PROGRAMS, UNITS, strict=True):
        name = unit.removesuffix(".service")
        assert f"Set /etc/vxlan-operator/{kind}.env, then: systemctl enable --now {name}" in printed
        assert (active(machine, unit), state(machine, "is-enabled", unit)) == (
            "inactive",
            "disabled",
        )
        settings = machine.run("stat", "--format", "%a %U %G", f"/etc/vxlan-operator/{kind}.env")
        assert settings == "640 root root\n"
        assert machine.run(PROGRAMS[kind], "--version") == f"{PROGRAMS[kind]} {VERSION}\n"
    assert rpm(machine, "--verify", *NAMES) == ""


def test_it_has_what_the_deb_has(machine: Machine) -> None:
    for kind in PROGRAMS:
        (deb,) = DIST.glob(f"vxlan-operator-{kind}_*.deb")
        contents = subprocess.run(
            ["dpkg-deb", "--contents", deb], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        listed = re.findall(r"^[^d].* \./?(/?\S+?)(?: -> .*)?$", contents, re.MULTILINE)
        files = {f"/{each.removeprefix('/')}" for each in listed}
        owned = rpm(machine, "--query", "--list", f"vxlan-operator-{kind}").split()
        found = machine.run(
            "sh", "-c", "for f; do [ -d $f -a ! -L $f ] || echo $f; done", "sh", *owned
        )
        assert set(found.split()) == files


@pytest.mark.usefixtures("servers")
def test_as_services_they_find_each_other_and_heal(machine: Machine) -> None:
    name_node(machine)
    introduce(machine)
    flags = (*DOCKERS_FLAGS, "dstport", "4789")
    machine.run("ip", "link", "add", "vx-001001-dead0", "type", "vxlan", "id", "4097", *flags)
    await_true(
        lambda: machine.run("ip", "-o", "link", "show", "type", "vxlan") == "",
        "the worker removes the orphan",
        pause=1.0,
    )


@pytest.mark.usefixtures("servers")
def test_an_upgrade_starts_what_ran_again_and_keeps_settings(machine: Machine) -> None:
    before = pids(machine)
    printed = rpm(machine, "--upgrade", *(newer(kind, "rpm", machine) for kind in PROGRAMS))
    assert "systemctl enable" not in printed
    assert "Left: " not in printed
    assert not set(pids(machine)) & {*before, "0"}
    assert {state(machine, "is-enabled", unit) for unit in UNITS} == {"enabled"}
    assert "JOIN_TOKEN=vxj" in machine.run("cat", SETTINGS)
    assert rpm(machine, "--query", *NAMES).count("-2.") == len(NAMES)
    await_true(lambda: machine.status("vxctl", "status", *TOKEN)[0] == 0, "all is well", pause=1.0)
    assert "Traceback" not in log(machine, WORKER)


@pytest.mark.usefixtures("servers")
def test_a_downgrade_starts_nothing_that_did_not_run(machine: Machine) -> None:
    machine.run("systemctl", "disable", "--now", WORKER)
    rpm(machine, "--upgrade", "--oldpackage", built("worker"))
    assert (active(machine, WORKER), state(machine, "is-enabled", WORKER)) == (
        "inactive",
        "disabled",
    )
    machine.run("systemctl", "enable", "--now", WORKER)
    await_ready(machine)


@pytest.mark.usefixtures("servers")
def test_removed_they_leave_changed_settings_and_state(machine: Machine, before: set[str]) -> None:
    printed = rpm(machine, "--erase", *NAMES)
    assert f"Left: {STATE} (and /var/lib/private/vxlan-worker)" in printed
    assert "Left: /var/lib/vxlan-operator (and /var/lib/private/vxlan-operator)" in printed
    for unit in UNITS:
        assert active(machine, unit) == "inactive"
    left = {each for each in machine.files() - before if "vx" in each}
    states = tuple(f"/var/lib/{each}" for each in ("vxlan", "private/vxlan"))
    assert {each for each in left if not each.startswith(states)} == {
        "/etc/vxlan-operator",
        f"{SETTINGS}.rpmsave",
    }
    assert STATE in left
