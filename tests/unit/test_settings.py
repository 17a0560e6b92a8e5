"""The worker's settings: from the environment and from options, with errors a person can act on."""

from pathlib import Path

import pytest

from contract.runtime.errors import OperatorError, print_error
from contract.runtime.settings import PREFIX
from tests.builders import NODE, OTHER_NODE
from worker.settings import WorkerSettings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in WorkerSettings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{field.upper()}", raising=False)
    monkeypatch.setenv(f"{PREFIX}NODE_ID", NODE)


def test_only_the_node_id_has_to_be_given() -> None:
    settings = WorkerSettings.load([])
    assert settings.node_id == NODE
    assert settings.grace_seconds == 5.0
    assert settings.mode == "enforce"
    assert settings.journal == Path("/var/lib/vxlan-operator/journal.jsonl")


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}GRACE_SECONDS", "7")
    assert WorkerSettings.load([]).grace_seconds == 7
    settings = WorkerSettings.load(["--grace-seconds", "9", "--node-id", OTHER_NODE])
    assert settings.grace_seconds == 9
    assert settings.node_id == OTHER_NODE


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}MODE", "")
    assert WorkerSettings.load([]).mode == "enforce"


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
        WorkerSettings.load([])
    assert repr(value) in error.value.problem
    option = "--" + name.lower().replace("_", "-")
    assert error.value.hint == f"set {PREFIX}{name} (or {option})"


def test_a_missing_node_id_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{PREFIX}NODE_ID")
    with pytest.raises(OperatorError) as error:
        WorkerSettings.load([])
    assert f"{PREFIX}NODE_ID (or --node-id)" in error.value.hint


def test_the_brokers_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BROKER_URL", "redis://:geheim@localhost/0")
    assert "geheim" not in repr(WorkerSettings.load([]))


def test_an_error_has_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(OperatorError("it is broken", "mend it"))
    assert capsys.readouterr().err == "error: it is broken\nhint: mend it\n"


def test_a_secret_that_is_wrong_is_not_printed() -> None:
    with pytest.raises(OperatorError) as told:
        WorkerSettings.load(["--node-id", "a" * 25, "--broker-url", "http://:hunter2@h/0"])
    assert "broker_url" in str(told.value)
    assert "hunter2" not in str(told.value)
