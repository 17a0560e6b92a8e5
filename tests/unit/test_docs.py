"""The documentation says what the code does."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
import typer

from contract import VERSION
from contract.runtime.settings import ONLY_VARIABLE, Settings, default_text
from contract.runtime.variables import PREFIX
from contract.verdicts import Stage
from controller.api.answers.audit import AuditAnswer
from controller.api.audit_parameters import AuditFilters
from controller.cli.commands import TREE
from controller.cli.verbs import make
from controller.process.settings import ControllerSettings, LocalSettings
from worker.scan import parser as scan_parser
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


PROGRAMS: Final[Mapping[type[Settings], str]] = {
    ControllerSettings: "vxctl controller",
    LocalSettings: "vxctl up",
    WorkerSettings: "vxlan-worker run",
}


def _section(program: str) -> str:
    text = (ROOT / "docs" / "configuration.md").read_text()
    return text.split(f"## `{program}`\n")[1].split("\n## ")[0]


def _settings() -> Iterator[tuple[type[Settings], str]]:
    for settings in (ControllerSettings, WorkerSettings):
        for name in settings.model_fields:
            yield settings, name
    for name in LocalSettings.model_fields:
        if name not in ControllerSettings.model_fields:
            yield LocalSettings, name


@pytest.mark.parametrize(("settings", "name"), list(_settings()))
def test_every_setting_is_documented_with_its_default(settings: type[Settings], name: str) -> None:
    section = _section(PROGRAMS[settings])
    field = settings.model_fields[name]
    secret = field.json_schema_extra == ONLY_VARIABLE
    option = "none" if secret else f"`--{name.replace('_', '-')}`"
    row = f"`{PREFIX}{name.upper()}` | {option} |"
    lines = [line for line in section.splitlines() if row in line]
    assert len(lines) == 1
    if not field.is_required():
        assert f"| {default_text(field)} |" in lines[0].replace("`", "")


@pytest.mark.parametrize("settings", PROGRAMS)
def test_nothing_is_documented_that_does_not_exist(settings: type[Settings]) -> None:
    documented = {
        line.split("`")[1].removeprefix(PREFIX).lower()
        for line in _section(PROGRAMS[settings]).splitlines()
        if line.startswith(f"| `{PREFIX}")
    }
    assert documented <= settings.model_fields.keys()


def test_every_option_of_scan_is_documented() -> None:
    described = {
        option
        for action in scan_parser()._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    section = _section("vxlan-worker scan")
    assert {option for option in described if f"`{option}`" in section} == described


def _table_of(heading: str) -> set[str]:
    """The first cells of the tables under a heading of docs/audit.md."""
    text = (ROOT / "docs" / "audit.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {word.strip(" `") for cell in cells for word in cell.split(", ")}


def test_every_field_and_stage_of_an_audit_row_is_documented() -> None:
    described = _table_of("What a row says")
    assert described == set(AuditAnswer.model_fields) | {stage.value for stage in Stage}


def test_every_filter_of_the_audit_trail_is_documented() -> None:
    filters = set(AuditFilters.model_fields)
    assert _table_of("Asking") == filters | {f"--{name}" for name in filters}
    options = {option for each in _audit_options() for option in each.opts}
    assert {f"--{name}" for name in filters} <= options


def _audit_options() -> Sequence[typer.core.TyperOption]:
    group = make("audit", TREE.verbs["audit"])
    return [each for each in group.params if isinstance(each, typer.core.TyperOption)]


def test_a_scan_in_a_container_is_told_once_and_with_this_version() -> None:
    commands = [
        found
        for document in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
        for found in re.findall(
            r"^# docker run .*?(?<!\\)$", document.read_text(), re.MULTILINE | re.DOTALL
        )
        if found.endswith(" scan")
    ]
    assert len(commands) == 1
    assert f" vxlan-operator-worker:{VERSION} " in commands[0]


def _anchors(document: Path) -> set[str]:
    """What GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for part in document.read_text().split("](")[1:]:
            target, _, heading = part.split(")")[0].partition("#")
            if target.startswith("https://"):
                continue
            file = document.parent / target if target else document
            assert file.exists(), f"{document.name}: {target}"
            assert not heading or heading in _anchors(file), f"{document.name}: {target}#{heading}"
