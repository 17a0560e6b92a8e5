"""The single file `vxlan-worker` on a machine without Python: a scan, and what it says of the rest."""

import json
import re

import pytest

from contract import VERSION
from contract.runtime.exit_status import ExitStatus
from tests.builders import NAME, VNI
from tests.integration.namespaces import DOCKERS_FLAGS
from tests.packages.conftest import DIST
from tests.packages.machine import Machine

(FILE,) = DIST.glob(f"vxlan-worker-{VERSION}-*")
MAX_BYTES = 16_000_000


def run(machine: Machine, *arguments: str) -> tuple[int, str]:
    return machine.status(f"/root/{FILE.name}", *arguments)


def add_orphan(machine: Machine) -> None:
    flags = (*DOCKERS_FLAGS, "dstport", "4789")
    machine.run("ip", "link", "add", NAME, "type", "vxlan", "id", str(VNI), *flags)


def test_it_is_small_and_needs_no_python(machine: Machine) -> None:
    assert FILE.stat().st_size < MAX_BYTES
    assert machine.status("sh", "-c", "command -v python3")[0] != 0
    assert run(machine, "--version") == (0, f"vxlan-worker {VERSION}\n")


def test_it_removes_an_orphan(machine: Machine) -> None:
    add_orphan(machine)
    status, printed = run(machine, "scan", "--grace-seconds", "0.3")
    assert status == ExitStatus.NO
    assert NAME in printed
    status, printed = run(machine, "scan", "--fix", "--grace-seconds", "0.3")
    assert status == 0, printed
    assert re.search(rf"^{NAME} .* removed ", printed, re.MULTILINE)
    assert machine.run("ip", "-o", "link", "show", "type", "vxlan") == ""
    status, printed = machine.status("sh", "-c", f"/root/{FILE.name} scan -o json 2>/dev/null")
    assert (status, json.loads(printed)["devices"]) == (0, [])


@pytest.mark.parametrize("verb", ["run", "doctor", "key"])
def test_what_it_has_not_it_says(machine: Machine, verb: str) -> None:
    status, printed = run(machine, verb)
    assert status == ExitStatus.USAGE
    assert printed.startswith("error: this single file has `scan` alone")
    assert "hint: install the package vxlan-operator-worker" in printed


def test_it_leaves_nothing_where_it_unpacks_itself(machine: Machine) -> None:
    run(machine, "--version")
    assert machine.run("sh", "-c", "ls -d /tmp/_MEI* 2>/dev/null || true") == ""
