"""docs/cli.md and the man pages are those of the code."""

import getpass
import socket

import pytest

from contract.runtime.exit_status import ExitStatus
from tests import cli_pages


def test_the_pages_are_current() -> None:
    old = [
        str(path.relative_to(cli_pages.DOCS.parent))
        for path, content in cli_pages.pages().items()
        if not path.exists() or path.read_text() != content
    ]
    assert not old, "not those of the code: run `make docs`"


def test_every_exit_status_is_told() -> None:
    found = dict(cli_pages.statuses())
    assert [*found] == [status.value for status in ExitStatus]
    page = (cli_pages.DOCS / "cli.md").read_text()
    assert all(f"| {status} | {text} |" in page for status, text in found.items())


def test_the_pages_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cli_pages.pages()
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    for name in ("COLUMNS", "VXLAN_OPERATOR_URL", "VXLAN_OPERATOR_MODE", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "40")
    assert cli_pages.pages() == before
