"""The worker's settings: from the environment and from options, with errors a person can act on."""

import os
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


class TestSecretFiles:
    """A secret setting out of a file."""

    VARIABLE = f"{PREFIX}BROKER_URL_FILE"
    URL = "redis://:geheim@example/0"

    @pytest.fixture
    def secret(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        file = tmp_path / "broker-url"
        file.write_text(self.URL + "\n")
        monkeypatch.setenv(self.VARIABLE, str(file))
        return file

    def test_its_line_is_the_setting(self, secret: Path) -> None:
        assert load().broker_url.get_secret_value() == self.URL

    def test_a_link_leads_to_it(self, secret: Path) -> None:
        secret.rename(secret.with_name("really"))
        secret.symlink_to("really")
        assert load().broker_url.get_secret_value() == self.URL

    def test_options_win_over_variables(
        self, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "other"
        other.write_text("redis://other/0")
        for given in (("--broker-url", "redis://other/0"), ("--broker-url-file", str(other))):
            assert load(*given).broker_url.get_secret_value() == "redis://other/0"
        monkeypatch.setenv(f"{PREFIX}BROKER_URL", "redis://variable/0")
        assert load("--broker-url-file", str(other)).broker_url.get_secret_value() == (
            "redis://other/0"
        )

    def test_both_variables_are_an_error(
        self, secret: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}BROKER_URL", self.URL)
        with pytest.raises(OperatorError) as told:
            load()
        assert told.value.problem == f"both {PREFIX}BROKER_URL and {self.VARIABLE} are set"
        assert told.value.hint == f"unset {PREFIX}BROKER_URL"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "cannot be read: No such file"),
            (b"", "is empty"),
            (b" \n\n", "is empty"),
            (b"redis://a/0\nredis://b/0\n", "more than one line"),
            (b"x" * 10_001, "larger than 10,000 bytes"),
            (b"redis://\xff/0", "not UTF-8"),
            (b"geheim", "broker_url: "),
        ],
    )
    def test_what_is_wrong_with_it_is_told_and_nothing_of_it_quoted(
        self, content: bytes | None, problem: str, secret: Path
    ) -> None:
        if content is None:
            secret.unlink()
        else:
            secret.write_bytes(content)
        with pytest.raises(OperatorError) as told:
            load()
        assert problem in told.value.problem
        assert "BROKER_URL" in told.value.hint
        assert "geheim" not in told.value.problem

    @pytest.mark.parametrize("kind", ["folder", "pipe", "a\0b"])
    def test_what_is_no_file_is_refused_at_once(self, kind: str, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OperatorError, match=r"Is a directory|not a regular file|null"):
            load("--broker-url-file", str(tmp_path / kind))
