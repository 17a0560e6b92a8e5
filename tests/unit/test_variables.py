"""Misspelt variables of ours are refused, those of our other programs are not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.runtime.errors import UsageError
from contract.runtime.variables import NAMES, PREFIX, refuse_unknown
from controller.process.settings import ControllerSettings, LocalSettings
from tests.controller_process import environment
from worker.doctor import DoctorSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
CLIENT = {"URL", "CONTEXT", "TOKEN", "TOKEN_FILE", "CA"}


def test_the_names_are_those_of_all_programs() -> None:
    kinds = (ControllerSettings, LocalSettings, WorkerSettings, DoctorSettings)
    settings = {name.upper() for kind in kinds for name in kind.model_fields}
    assert {PREFIX + name for name in settings | CLIENT} == NAMES
    documented = (ROOT / "docs" / "configuration.md").read_text()
    assert set(re.findall(rf"`({PREFIX}[A-Z_]+)`", documented)) == NAMES


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BORKER_URL", f"set {PREFIX}BROKER_URL instead of {PREFIX}BORKER_URL"),
        ("RESYNC_SECS", f"set {PREFIX}RESYNC_SECONDS instead of {PREFIX}RESYNC_SECS"),
        ("MOD", f"set {PREFIX}MODE instead of {PREFIX}MOD"),
        ("XYZZY", f"unset {PREFIX}XYZZY"),
    ],
)
def test_the_hint_is_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        refuse_unknown([PREFIX + name, "HOME"])
    assert error.value.problem == f"no setting has this name: {PREFIX}{name}"
    assert error.value.hint == hint


def test_names_of_ours_and_of_others_are_fine() -> None:
    refuse_unknown([*NAMES, f"{PREFIX}mode".lower(), "HOME", "VXLAN_OTHER"])


def test_a_thousand_are_not_all_listed() -> None:
    with pytest.raises(UsageError) as error:
        refuse_unknown([f"{PREFIX}{number}" for number in range(1000)])
    assert error.value.problem.endswith("_10 and 997 more")


@pytest.mark.parametrize(
    "command",
    [
        ("vxctl", "status"),
        ("vxctl", "controller"),
        ("vxctl", "up"),
        ("vxctl", "db", "current"),
        ("vxlan-worker", "run"),
        ("vxlan-worker", "doctor"),
    ],
    ids=" ".join,
)
def test_every_program_refuses_it(command: tuple[str, ...]) -> None:
    program, *arguments = command
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        env=environment() | {f"{PREFIX}DATABSE_URL": "sqlite:///x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"error: no setting has this name: {PREFIX}DATABSE_URL\n"
        f"hint: set {PREFIX}DATABASE_URL instead of {PREFIX}DATABSE_URL\n"
    )
