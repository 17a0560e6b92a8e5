"""The controller's settings: environment, options over it, and a clear error for what is wrong."""

import os
import sys
from unittest.mock import patch

import pytest

from contract.runtime.errors import OperatorError
from contract.runtime.settings import ONLY_VARIABLE
from controller.cli import main
from controller.cli.commands import app
from controller.notifications.events import SITE
from controller.process.settings import ControllerSettings, LocalSettings


def load(*options: str) -> ControllerSettings:
    """What `vxctl controller` reads from its options and the environment."""
    found: list[ControllerSettings] = []

    def run(settings: ControllerSettings, *_: object, **__: object) -> None:
        found.append(settings)

    with patch("controller.process.controller.run", run), patch("os.umask"):
        app(["controller", *options], standalone_mode=False)
    return found[0]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine."""
    for name in os.environ:
        if name.startswith("VXLAN_OPERATOR_"):
            monkeypatch.delenv(name)


def test_defaults_need_nothing() -> None:
    settings = load()
    assert settings.listen == "127.0.0.1:8479"
    assert settings.mode == "enforce"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_RESYNC_SECONDS", "90")
    assert load().resync_seconds == 90


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_MODE", "enforce")
    assert load("--mode", "observe").mode == "observe"


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", "")
    assert load().listen == "127.0.0.1:8479"


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:8479", "0.0.0.0:0", ":80", "localhost:65535", "[::1]:80", "[::]:8479"]
)
def test_an_address_to_listen_on(listen: str) -> None:
    assert load("--listen", listen).listen == listen


@pytest.mark.parametrize("hosts", ["ops.example", "ops.example, manager1,192.0.2.1", "[::1]"])
def test_further_hosts(hosts: str) -> None:
    assert load("--allowed-hosts", hosts).allowed_hosts == hosts


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
        load(f"--{option}={value}")
    name = option.replace("-", "_")
    assert caught.value.problem.startswith(f"{name}: ")
    assert repr(value) in caught.value.problem
    assert caught.value.hint == f"set VXLAN_OPERATOR_{name.upper()} (or --{option})"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://[::1]:4318/", "https://[::1]:4318/v1/traces"),
        ("https://otel.example/custom?tenant=1", "https://otel.example/custom?tenant=1"),
    ],
)
def test_a_collector_of_traces(given: str, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_TRACES_HEADERS", "Authorization=Bearer a%2Cb, x-tenant=ops")
    address = load("--traces-endpoint", given).collector()
    assert address is not None
    assert address.url == used
    assert address.headers == {"authorization": "Bearer a,b", "x-tenant": "ops"}
    assert load().traces_endpoint.get_secret_value() == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traces-endpoint", "127.0.0.1:4318"),
        ("traces-endpoint", "grpc://s3cret:4317"),
        ("traces-endpoint", "http://user:s3cret@otel.example/"),
        ("traces-endpoint", "http://otel.example:s3cret/"),
        ("traces-endpoint", "http://otel.example/\x1b[31m"),
        ("traces-headers", "s3cret"),
        ("traces-headers", "a b=s3cret"),
        ("traces-headers", "a=s3cret%0d%0ab: c"),
        ("traces-headers", "content-type=s3cret"),
    ],
)
def test_a_wrong_collector_is_told_without_a_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"VXLAN_OPERATOR_{name.replace('-', '_').upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(OperatorError) as caught:
        load()
    assert caught.value.problem.startswith(f"{name.replace('-', '_')}: ")
    assert "s3cret" not in caught.value.problem
    assert variable in (caught.value.hint or "")


def test_headers_without_a_collector_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().collector() is None
    monkeypatch.setenv("VXLAN_OPERATOR_TRACES_HEADERS", "authorization=Bearer abc")
    with pytest.raises(OperatorError, match="no collector"):
        load().collector()


@pytest.mark.parametrize(
    "url", ["", "https://jaeger.example/trace/{trace_id}", "http://[::1]/#/t?id={trace_id}&x=%7B"]
)
def test_the_url_of_a_trace(url: str) -> None:
    assert load("--trace-url", url).trace_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://jaeger.example/trace/",
        "https://jaeger.example/{traceid}/{trace_id}",
        "https://jaeger.example/{}{trace_id}",
        "javascript:alert('{trace_id}')",
        "//jaeger.example/{trace_id}",
        "https://{trace_id}.example/",
        "https://jaeger.example/\u202e{trace_id}",
        'https://jaeger.example/"><b>{trace_id}',
        "https://jaeger.example/ {trace_id}",
        "https:///{trace_id}",
        "https://[::1/{trace_id}",
        "https://jaeger.example/{trace_id}" + "x" * 2000,
    ],
)
def test_a_wrong_url_of_a_trace_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        load(f"--trace-url={url}")
    assert caught.value.hint == "set VXLAN_OPERATOR_TRACE_URL (or --trace-url)"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", SITE),
        ("https://docs.example", "https://docs.example"),
        ("http://docs.example:8000/", "http://docs.example:8000"),
        ("https://docs.example/a/vx/", "https://docs.example/a/vx"),
    ],
)
def test_the_url_of_the_documents(given: str, url: str) -> None:
    assert load(f"--docs-url={given}").docs_url == url


@pytest.mark.parametrize(
    "url",
    [
        "docs.example/vx",
        "javascript:alert(1)//",
        "file:///srv/docs",
        "//docs.example/vx",
        "https://docs.example/vx?a=1",
        "https://docs.example/vx#runbook",
        "https://docs.example/a b",
        'https://docs.example/"><b>',
        "https://docs.example/\u202evx",
        "https://ann:secret@docs.example/vx",
        "https://[::1/vx",
        "https:///vx",
    ],
)
def test_a_wrong_url_of_the_documents_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        load(f"--docs-url={url}")
    assert caught.value.hint == "set VXLAN_OPERATOR_DOCS_URL (or --docs-url)"


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """Run `vxctl`; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["vxctl", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--bogus"], "no such option: --bogus"),
        (["--mode"], "'--mode' requires an argument"),
        (["leftover"], "leftover"),
        (["--listen", "h:1", "more"], "more"),
        (["--mode", "destroy"], "mode: "),
    ],
)
@pytest.mark.parametrize("verb", ["controller", "up"])
def test_wrong_options_end_the_command(
    verb: str,
    arguments: list[str],
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(verb, *arguments, monkeypatch=monkeypatch) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert wrong in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("verb", "settings"), [("controller", ControllerSettings), ("up", LocalSettings)]
)
def test_help_shows_every_option_with_its_variable_and_default(
    verb: str,
    settings: type[ControllerSettings | LocalSettings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("VXLAN_OPERATOR_DATABASE_URL", "postgresql://u:s3cr3t@h/n")
    assert command(verb, "--help", monkeypatch=monkeypatch) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "s3cr3t" not in shown
    for name, field in settings.model_fields.items():
        if field.json_schema_extra == ONLY_VARIABLE:
            assert name.upper() not in shown.replace(f"{name.upper()}_FILE", "")
            continue
        assert f"--{name.replace('_', '-')} " in shown
        # The longest variable is longer than the column, and broken.
        described = f"{field.description} (VXLAN_OPERATOR_{name.upper()}, default: "
        assert described.replace(" ", "") in shown.replace(" ", "")
    assert "VXLAN_OPERATOR_RESYNC_SECONDS, default: 60)" in shown


def test_passwords_are_not_shown() -> None:
    settings = load(
        "--database-url", "postgresql://u:s3cr3t@h/n", "--broker-url", "redis://:s3cr3t@h/0"
    )
    assert "s3cr3t" not in repr(settings)
