"""The worker's settings: from the environment and from options, with errors a person can act on."""

import sys
from pathlib import Path

import pytest

from contract.runtime.errors import OperatorError, print_error
from contract.runtime.variables import PREFIX
from tests.builders import NODE, OTHER_NODE
from worker.cli import main
from worker.options import Parser
from worker.run import _asked as asked
from worker.settings import WorkerSettings


def load(*options: str) -> WorkerSettings:
    """What `vxlan-worker run` reads from its options and the environment."""
    parser = Parser()
    parser.add_settings(WorkerSettings)
    return WorkerSettings.load(vars(parser.parse_args(options)))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in WorkerSettings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{field.upper()}", raising=False)
    monkeypatch.setenv(f"{PREFIX}NODE_ID", NODE)


def test_nothing_has_to_be_given() -> None:
    settings = load()
    assert settings.node_id == NODE
    assert settings.grace_seconds == 5.0
    assert settings.mode == "enforce"
    assert settings.journal == Path("/var/lib/vxlan-operator/journal.jsonl")


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}GRACE_SECONDS", "7")
    assert load().grace_seconds == 7
    settings = load("--grace-seconds", "9", "--node-id", OTHER_NODE)
    assert settings.grace_seconds == 9
    assert settings.node_id == OTHER_NODE


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}MODE", "")
    assert load().mode == "enforce"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODE_ID", "worker-1"),
        ("NODE_ID", NODE + "x"),
        ("GRACE_SECONDS", "0"),
        ("GRACE_SECONDS", "soon"),
        ("GRACE_SECONDS", "nan"),
        ("MODE", "destroy"),
        ("MAX_REMOVALS_PER_RUN", "0"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_its_option(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(OperatorError) as error:
        load()
    assert repr(value) in error.value.problem
    option = "--" + name.lower().replace("_", "-")
    assert error.value.hint == f"set {PREFIX}{name} (or {option})"


def test_a_node_id_that_dockerd_does_not_tell_has_to_be_set(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as error:
        asked(tmp_path / "docker.sock")
    assert f"{PREFIX}NODE_ID (or --node-id)" in error.value.hint


def test_the_brokers_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BROKER_URL", "redis://:geheim@localhost/0")
    assert "geheim" not in repr(load())


def test_an_error_has_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(OperatorError("it is broken", "mend it"))
    assert capsys.readouterr().err == "error: it is broken\nhint: mend it\n"


def test_a_secret_that_is_wrong_is_not_printed() -> None:
    with pytest.raises(OperatorError) as told:
        load("--node-id", "a" * 25, "--broker-url", "http://:hunter2@h/0")
    assert "broker_url" in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "arguments", [["--bogus"], ["--mode"], ["leftover"], ["--node-id", NODE, "more"]]
)
def test_invalid_options_are_a_clear_error(arguments: list[str]) -> None:
    with pytest.raises(OperatorError, match=r"see `.* --help`"):
        load(*arguments)


def test_help_shows_every_option_with_its_variable_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        load("--help")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in WorkerSettings.model_fields.items():
        if name == "join_token":
            assert "--join-token " not in shown, "an option would show a secret to everybody"
            continue
        assert f"--{name.replace('_', '-')}" in shown
        assert f"({PREFIX}{name.upper()}, " in shown
        assert field.description is not None
        assert field.description in shown
    assert f"{PREFIX}GRACE_SECONDS, default: 5)" in shown
    assert f"{PREFIX}NODE_ID, default: none)" in shown


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["nosuch"], "no such command 'nosuch'"),
        (["run", "--bogus"], "unrecognized arguments: --bogus"),
        (["run", "--mode", "destroy"], "mode: "),
        (["scan", "--bogus"], "unrecognized arguments: --bogus"),
        (["scan", "--data-path-port", "0"], "must be between 1 and 65535"),
    ],
)
def test_a_wrong_command_line_ends_with_two_lines(
    arguments: list[str],
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["vxlan-worker", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert wrong in error
    assert hint.startswith("hint: ")
