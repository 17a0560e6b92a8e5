"""The systemd units: what systemd itself says of them, and that the worker needs no other capabilities."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from contract.verdicts import Outcome
from tests.builders import NAME, NODE, VNI
from tests.conftest import cannot
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import PROGRAM, Controller, heal, running
from tests.servers import RedisServer

UNITS: Final = Path(__file__).parents[2] / "packaging" / "systemd"
MAX_EXPOSURE: Final = 2.0


def values(name: str, key: str) -> list[str]:
    """All values of a key in a unit, in order."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["vxlan-worker.service", "vxlan-controller.service"])
def test_systemd_rates_its_exposure_as_low(name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        cannot("needs systemd-analyze: apt-get install systemd")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rated.stdout)
    assert found is not None, rated.stdout
    assert float(found[1]) < MAX_EXPOSURE, rated.stdout
    verified = subprocess.run(
        ["systemd-analyze", "verify", UNITS / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in verified.stderr.splitlines() if name in line]
    assert all("is not executable" in line for line in ours), "the program alone is missing here"


@pytest.mark.parametrize("name", ["vxlan-worker.service", "vxlan-controller.service"])
def test_it_is_started_again_for_ever(name: str) -> None:
    assert values(name, "Restart") == ["always"]
    assert values(name, "StartLimitIntervalSec") == ["0"]


@pytest.mark.privileged
def test_a_worker_removes_with_the_capabilities_of_its_unit_alone(
    in_empty_namespace: int, redis_server: RedisServer, broker_url: str, tmp_path: Path
) -> None:
    (kept,) = values("vxlan-worker.service", "CapabilityBoundingSet")
    assert values("vxlan-worker.service", "AmbientCapabilities") == [kept]
    names = ",".join(f"+{each.removeprefix('CAP_').lower()}" for each in kept.split())
    limited = (
        "setpriv", "--no-new-privs", f"--bounding-set=-all,{names}", f"--inh-caps=-all,{names}",
    )  # fmt: skip
    host = Namespace(in_empty_namespace)
    host.add_vxlan(NAME, VNI)
    with running(host, tmp_path, broker_url, command=(*limited, PROGRAM, "run"), NODE_ID=NODE):
        report = heal(Controller(redis_server))
    assert report.outcome is Outcome.DONE
    assert host.ip("-o link show type vxlan") == ""
