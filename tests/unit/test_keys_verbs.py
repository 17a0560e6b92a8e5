"""`vxctl keys`: what it says of a rotation."""

from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli import keys
from controller.cli.commands import app
from tests.signed import key_of

ANSWER: dict[str, Any] = {
    "id": key_of("next").public.id,
    "public_key": key_of("next").public.text,
    "state": "signing",
    "created_at": "2026-01-01T00:00:00Z",
    "retired_at": None,
    "lacking": [],
}


class Stub:
    """A controller that does as it is told."""

    def __init__(self, url: object) -> None:
        pass

    def post(self, *_path: str, body: object) -> dict[str, Any]:
        return ANSWER

    def get(self, *_path: str) -> dict[str, Any]:
        return {"items": [ANSWER]}


def said(*arguments: str) -> str:
    """What `vxctl keys` says."""
    result = CliRunner().invoke(app, ["keys", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_the_keys_are_listed_for_who_asks_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "Client", Stub)
    assert "PUBLIC KEY" in said()
    assert "PUBLIC KEY" not in said("rotate", "--finish")


def test_who_has_finished_a_rotation_is_told_of_the_join_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "Client", Stub)
    output = said("rotate", "--finish")
    assert "is signing" in output
    assert "`vxctl node join-token create`" in output
    assert "`vxctl node join-token list`" in output
