"""The documentation says what the code does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import PREFIX, Settings
from controller.settings import ControllerSettings, LocalSettings
from worker.scan import parser as scan_parser
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


def _section(program: str) -> str:
    text = (ROOT / "docs" / "configuration.md").read_text()
    return text.split(f"## `{program}`\n")[1].split("\n## ")[0]


def _settings() -> Iterator[tuple[type[Settings], str]]:
    for settings in (ControllerSettings, WorkerSettings):
        for name in settings.model_fields:
            yield settings, name
    for name in LocalSettings.model_fields.keys() - ControllerSettings.model_fields.keys():
        yield LocalSettings, name


@pytest.mark.parametrize(("settings", "name"), list(_settings()))
def test_every_setting_is_documented_with_its_default(settings: type[Settings], name: str) -> None:
    section = _section(settings.program)
    option = f"`{PREFIX}{name.upper()}` | `--{name.replace('_', '-')}` |"
    lines = [line for line in section.splitlines() if option in line]
    assert len(lines) == 1
    field = settings.model_fields[name]
    if not field.is_required():
        default = field.default
        shown = getattr(default, "get_secret_value", lambda: default)()
        text = f"{shown:g}" if isinstance(shown, float) else str(shown)
        assert f"| `{text}` |" in lines[0]


@pytest.mark.parametrize("settings", [ControllerSettings, WorkerSettings, LocalSettings])
def test_nothing_is_documented_that_does_not_exist(settings: type[Settings]) -> None:
    documented = {
        line.split("`")[1].removeprefix(PREFIX).lower()
        for line in _section(settings.program).splitlines()
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


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for part in document.read_text().split("](")[1:]:
            target = part.split(")")[0]
            assert (document.parent / target).exists(), f"{document.name}: {target}"
