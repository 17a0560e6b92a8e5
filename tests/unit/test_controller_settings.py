"""The controller's settings: environment, options over it, and one clear line for what is wrong."""

import os

import pytest

from contract.runtime.errors import OperatorError
from controller.process.settings import ControllerSettings, LocalSettings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine."""
    for name in os.environ:
        if name.startswith("VXLAN_OPERATOR_"):
            monkeypatch.delenv(name)


def test_defaults_need_nothing() -> None:
    settings = ControllerSettings.load([])
    assert settings.listen == "127.0.0.1:8479"
    assert settings.mode == "enforce"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_RESYNC_SECONDS", "90")
    assert ControllerSettings.load([]).resync_seconds == 90


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_MODE", "enforce")
    assert ControllerSettings.load(["--mode", "observe"]).mode == "observe"


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", "")
    assert ControllerSettings.load([]).listen == "127.0.0.1:8479"


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:8479", "0.0.0.0:0", ":80", "localhost:65535", "[::1]:80", "[::]:8479"]
)
def test_an_address_to_listen_on(listen: str) -> None:
    assert ControllerSettings.load(["--listen", listen]).listen == listen


@pytest.mark.parametrize("hosts", ["ops.example", "ops.example, manager1,192.0.2.1", "[::1]"])
def test_further_hosts(hosts: str) -> None:
    assert ControllerSettings.load(["--allowed-hosts", hosts]).allowed_hosts == hosts


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("allowed-hosts", "ops.example:80"),
        ("allowed-hosts", "http://ops.example"),
        ("allowed-hosts", "ops.example,,manager1"),
        ("allowed-hosts", "*.example/"),
        ("listen", "8479"),
        ("listen", "host:"),
        ("listen", "host:65536"),
        ("listen", "::1:80"),
        ("listen", "http://host:80"),
        ("mode", "destroy"),
        ("resync-seconds", "0"),
        ("resync-seconds", "soon"),
        ("resync-seconds", "nan"),
        ("resync-seconds", "inf"),
        ("sync-seconds", "-1"),
        ("run-timeout-seconds", "nan"),
        ("log-level", "loud"),
    ],
)
def test_a_wrong_value_names_the_variable_and_the_option(option: str, value: str) -> None:
    with pytest.raises(OperatorError) as caught:
        ControllerSettings.load([f"--{option}={value}"])
    name = option.replace("-", "_")
    assert caught.value.problem.startswith(f"{name}: ")
    assert repr(value) in caught.value.problem
    assert caught.value.hint == f"set VXLAN_OPERATOR_{name.upper()} (or --{option})"


@pytest.mark.parametrize(
    "arguments", [["--bogus"], ["--mode"], ["leftover"], ["--listen", "h:1", "more"]]
)
def test_options_without_a_meaning_end_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        ControllerSettings.load(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ControllerSettings, LocalSettings])
def test_help_explains_every_setting(
    kind: type[ControllerSettings | LocalSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        kind.load(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for name, field in kind.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description


def test_passwords_are_not_shown() -> None:
    settings = ControllerSettings.load(
        ["--database-url", "postgresql://u:s3cr3t@h/n", "--broker-url", "redis://:s3cr3t@h/0"]
    )
    assert "s3cr3t" not in repr(settings)
