"""What the packages are made of fits together: units, settings files, scripts, and what fills them in."""

import re
from pathlib import Path

import pytest
import yaml

from contract.runtime.variables import NAMES

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
PROGRAMS = {"worker": "vxlan-worker", "controller": "vxctl"}
BUILD = (ROOT / "scripts" / "packages").read_text()
UNITS = {kind: (PACKAGING / "systemd" / f"vxlan-{kind}.service").read_text() for kind in PROGRAMS}


def filled_in(template: Path, kind: str) -> str:
    """A template with what the script puts into it, as far as that is the same everywhere."""
    (arguments,) = re.findall(rf"package {kind} (\S+) (\S+) (\S+)", BUILD)
    values = dict(zip(("PROGRAM", "UNIT", "STATE"), arguments, strict=True))
    values |= {"KIND": kind, "NAME": f"vxlan-operator-{kind}"}
    return re.sub(r"@([A-Z]+)@", lambda found: values.get(found[1], "1"), template.read_text())


def test_all_that_stands_in_a_template_is_filled_in() -> None:
    templates = [PACKAGING / "nfpm.yaml", *(PACKAGING / "maintainer").iterdir()]
    used = {name for each in templates for name in re.findall(r"@[A-Z]+@", each.read_text())}
    assert used == set(re.findall(r"@[A-Z]+@", BUILD))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_package_has_the_unit_its_settings_and_its_program(kind: str) -> None:
    package = yaml.safe_load(filled_in(PACKAGING / "nfpm.yaml", kind))
    contents = {each["dst"]: each for each in package["contents"]}
    unit = UNITS[kind]
    program = PROGRAMS[kind]
    assert f"/usr/lib/systemd/system/vxlan-{kind}.service" in contents
    assert f"ExecStart=/usr/bin/{program} " in unit
    assert contents[f"/usr/bin/{program}"]["type"] == "symlink"
    (settings,) = re.findall(r"^EnvironmentFile=(.*)$", unit, re.MULTILINE)
    assert contents[settings]["type"] == "config|noreplace"
    assert contents[settings]["file_info"]["mode"] == 0o640
    for each in contents.values():
        if each.get("src", "").startswith(("packaging", "LICENSE")):
            assert (ROOT / each["src"]).is_file()
    for script in package["scripts"].values():
        assert (PACKAGING / "maintainer" / Path(script).name).is_file()


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_scripts_know_the_units_state(kind: str) -> None:
    (folder,) = re.findall(r"^StateDirectory=(.*)$", UNITS[kind], re.MULTILINE)
    script = filled_in(PACKAGING / "maintainer" / "postremove", kind)
    assert f"state=/var/lib/{folder}\n" in script


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_settings_files_name_settings(kind: str) -> None:
    text = (PACKAGING / "env" / f"{kind}.env").read_text()
    named = set(re.findall(r"^#?(VXLAN_OPERATOR_[A-Z_]+)=", text, re.MULTILINE))
    assert named
    assert named <= NAMES
    assert not re.findall(r"^[^#\n]", text, re.MULTILINE), "nothing is set by itself"


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_wrong_setting_does_not_start_a_service_again_for_ever(kind: str) -> None:
    assert "\nRestartPreventExitStatus=2\n" in UNITS[kind]
