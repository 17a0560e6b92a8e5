"""`vxctl keys`: what it says of a rotation."""

from pathlib import Path
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
    "later": [],
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
    assert "join tokens made before still serve" in output
    assert "`vxctl node join-token list`" in output
    output = said("rotate", "--finish", "--revoke-join-tokens")
    assert "join tokens made before are revoked" in output
    result = CliRunner().invoke(app, ["keys", "rotate", "--revoke-join-tokens"])
    assert "--revoke-join-tokens needs --finish" in str(result.exception)


def test_nodes_that_are_told_later_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "Client", Stub)
    monkeypatch.setitem(ANSWER, "later", [f"node-{number}" for number in range(7)])
    output = said("rotate", "--finish")
    assert "told later: node-0, node-1, node-2, node-3, node-4 and 2 more" in output


def test_who_rotates_a_key_that_is_a_secret_is_told_to_make_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(keys, "Client", Stub)
    monkeypatch.setenv("VXLAN_OPERATOR_SIGNING_KEY", "/proc/self/signing-key")
    output = said("rotate", "--file", str(tmp_path / "next.key"))
    assert f"give all controllers {tmp_path / 'next.key'} as /proc/self/signing-key.next" in output
    monkeypatch.setenv("VXLAN_OPERATOR_SIGNING_KEY", str(tmp_path / "controller.key"))
    assert "give all controllers" not in said("rotate", "--file", str(tmp_path / "next.key"))
