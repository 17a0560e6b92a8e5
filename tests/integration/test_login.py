"""`vxctl login`, `config`, `token` and `--ca` as real processes against real servers, also with TLS."""

import csv
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import uvicorn
import yaml

from contract import VERSION
from contract.runtime.errors import OperatorError
from contract.verdicts import Mode
from controller.access import first_token
from controller.access.token_file import read_token
from controller.api import IDENTITY_HEADER
from controller.db.access_models import ApiToken
from controller.db.engine import Database, open_database
from tests import forked
from tests.api_client import shared_app
from tests.controller_process import assert_clear_error, environment, free_port
from tests.servers import PostgresServer, await_true
from tests.stored import put, wipe
from tests.tokens import ADMIN, give_token

Done = subprocess.CompletedProcess[str]


@contextmanager
def serving(
    database: Database, certificate: str | None = None, key: str | None = None
) -> Iterator[int]:
    """Serve the API; yield the port."""
    port = free_port()
    app = shared_app(database, Mode.OBSERVE)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_level="critical",
            headers=[(IDENTITY_HEADER, VERSION)],
            ssl_certfile=certificate,
            ssl_keyfile=key,
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    await_true(lambda: server.started, "the API listens")
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def server(shared_sqlite: Database) -> Iterator[int]:
    """The port of an API."""
    with serving(shared_sqlite) as port:
        yield port


@pytest.fixture
def port(server: int, sqlite: Database) -> int:
    """The same, with the tests' token."""
    put(sqlite)
    give_token(sqlite)
    return server


class Person:
    """Somebody with a home and no token in the environment."""

    def __init__(self, home: Path) -> None:
        self.file = home / ".config" / "vxctl" / "config.toml"
        self._environment = {
            name: value
            for name, value in environment().items()
            if not name.startswith(("VXLAN_", "XDG_"))
        } | {"HOME": str(home), "VXLAN_OPERATOR_API_TOKEN_FILE": str(home / "none")}

    def __call__(self, *arguments: str, given: str = "", **variables: str) -> Done:
        told = {f"VXLAN_OPERATOR_{name}": value for name, value in variables.items()}
        return forked.as_text(
            forked.run(list(arguments), self._environment | told, 60, given.encode())
        )

    def says(self, *arguments: str, given: str = "", **variables: str) -> str:
        done = self(*arguments, given=given, **variables)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def test_login_and_contexts(person: Person, port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{port}"
    assert_clear_error(person("get", "nodes", "--url", url), "wants a token")
    refused = person("login", url, given=f"vxo_00000000_{'x' * 43}\n")
    assert_clear_error(refused, "not valid")
    assert not person.file.exists(), "nothing is kept that was not accepted"
    said = person.says("login", url, "--context", "prod", given=ADMIN.text + "\n")
    assert "as admin with the role admin; context prod is the current one" in said
    assert stat.S_IMODE(person.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(person.file.parent.stat().st_mode) == 0o700
    assert "one" in person.says("get", "nodes")

    person.says("config", "set", "other", "--url", "http://127.0.0.1:1")
    rows = json.loads(person.says("config", "list", "-o", "json"))
    assert [(row["name"], row["current"]) for row in rows] == [("other", False), ("prod", True)]
    assert ADMIN.text not in person.says("config", "list")
    assert person.says("config", "list", "-o", "name") == "context/other\ncontext/prod\n"
    assert_clear_error(person("get", "nodes", "--context", "other"), "no controller answers")
    person.says("config", "use", "other")
    assert "one" in person.says("get", "nodes", CONTEXT="prod")
    assert "one" in person.says("get", "nodes", "--context", "prod", URL="http://127.0.0.1:1")
    assert "one" in person.says(
        "get", "nodes", "--context", "prod", TOKEN=f"vxo_00000000_{'x' * 43}"
    )
    # The token of a context goes to no other URL.
    assert_clear_error(person("get", "nodes", URL=url), "wants a token")
    assert_clear_error(person("get", "nodes", "--url", url, CONTEXT="prod"), "wants a token")
    token_file = tmp_path / "token"
    token_file.write_text(ADMIN.text)
    token_file.chmod(0o600)
    assert "one" in person.says("get", "nodes", "--url", url, "--token-file", str(token_file))
    person.says("config", "set", "other", "--url", url, "--token-file", str(token_file))
    assert "one" in person.says("get", "nodes")
    token_file.chmod(0o644)
    assert "warning: other users may read" in person("get", "nodes").stderr
    person.says("config", "remove", "other")
    assert "other" not in person.says("config", "list")
    person.says("config", "set", "prod", "--url", "http://127.0.0.1:1")
    assert ADMIN.text not in person.file.read_text()
    assert person.says("config", "path") == f"{person.file}\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("x = [", "not TOML"),
        ("current = 'gone'", "none of the contexts"),
        ("current = 3", "none of the contexts"),
        ("contexts = 3", "must be a table"),
        ("[contexts]\na = 3", "must be a table"),
        ("[contexts.a]\ntoken = 'x'", "has no url"),
        ("[contexts.a]\nurl = 3", "text in quotes"),
        ("[contexts.a]\nurl = 'http://x'\ntoken = 'x'", "not a token"),
        ("[contexts.a]\nurl = 'http://x'\nurll = 'x'", "urll is unknown"),
        ("[contexts.a]\nurl = 'http://x'\ntoken_file = 'x'\ntoken = 'y'", "one of them"),
        ('"\\u001b[2J" = 1', "is unknown"),
        ("x = " + "[" * 20_000, "not TOML"),
        ("#" * (1 << 20) + "\n", "larger than"),
    ],
)
def test_a_broken_file_is_one_error(person: Person, content: str, problem: str) -> None:
    person.file.parent.mkdir(parents=True)
    person.file.write_text(content)
    assert_clear_error(person("get", "nodes"), problem, 2)
    assert person.file.read_text() == content


def test_wrong_contexts_are_one_error(person: Person) -> None:
    assert_clear_error(person("get", "nodes", "--context", "no\x1b[2J"), "no context", 2)
    assert_clear_error(person("config", "use", "no"), "no context", 2)
    assert_clear_error(person("config", "set", "a b", "--url", "http://x"), "cannot name", 2)
    assert_clear_error(person("config", "set", "new"), "needs a URL", 2)
    both = person("get", "nodes", "--context", "a", "--url", "http://x")
    assert_clear_error(both, "both name a controller", 2)
    assert_clear_error(person("get", "nodes", URL="http://x", CONTEXT="a"), "both name", 2)
    assert_clear_error(person("login", "nonsense"), "is not a URL", 2)
    assert_clear_error(person("login", "http://127.0.0.1:1", given="x" * 1_000_000), "no token", 2)
    assert_clear_error(person("login", "http://127.0.0.1:1", given=ADMIN.text), "answers")


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def test_https_is_verified_by_the_ca(person: Person, sqlite: Database, tmp_path: Path) -> None:
    for name in ("ours", "another"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", "/CN=test",
            "-addext", "subjectAltName=DNS:localhost", folder=tmp_path,
        )  # fmt: skip
    ours, another = str(tmp_path / "ours.pem"), str(tmp_path / "another.pem")
    put(sqlite)
    give_token(sqlite)
    with serving(sqlite, certificate=ours, key=str(tmp_path / "ours.key")) as port:
        url = f"https://localhost:{port}"
        ask = ("get", "nodes", "--url", url)
        assert "one" in person.says(*ask, "--ca", ours, TOKEN=ADMIN.text)
        assert "one" in person.says(*ask, CA=ours, TOKEN=ADMIN.text)
        assert_clear_error(person(*ask, TOKEN=ADMIN.text), "is not trusted: self-signed")
        assert_clear_error(person(*ask, "--ca", another, TOKEN=ADMIN.text), "is not trusted")
        address = ("get", "nodes", "--url", f"https://127.0.0.1:{port}", "--ca", ours)
        assert_clear_error(
            person(*address, TOKEN=ADMIN.text), "is not trusted: IP address mismatch"
        )
        assert_clear_error(person(*ask, "--ca", "nosuch", TOKEN=ADMIN.text), "No such file", 2)
        assert_clear_error(
            person(*ask, "--ca", str(tmp_path / "ours.key"), TOKEN=ADMIN.text), "cannot be used", 2
        )
        person.says("login", url, "--ca", ours, given=ADMIN.text)
        assert "one" in person.says("get", "nodes")
    with serving(sqlite) as port:
        plain = person("get", "nodes", "--url", f"https://localhost:{port}", TOKEN=ADMIN.text)
        assert_clear_error(plain, "no TLS")


def test_tokens_by_the_command_line(person: Person, port: int, tmp_path: Path) -> None:
    def token(*arguments: str) -> str:
        return person.says("token", *arguments, URL=f"http://127.0.0.1:{port}", TOKEN=ADMIN.text)

    made = json.loads(token("create", "ci", "--role", "operate", "--expires", "90d", "-o", "json"))
    assert person.says("get", "nodes", URL=f"http://127.0.0.1:{port}", TOKEN=made["token"])
    file = tmp_path / "ci.token"
    token("create", "prom", "--role", "metrics", "--file", str(file))
    secret = read_token(file)
    assert secret is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {"token/ci", "token/prom"} <= set(token("list", "-o", "name").split())
    assert {row["name"] for row in csv.DictReader(token("list", "-o", "csv").splitlines())} >= {
        "ci",
        "prom",
    }
    rows = yaml.safe_load(token("list", "-o", "yaml"))
    assert rows == json.loads(token("list", "-o", "json"))
    assert made["token"] not in token("list", "-o", "yaml")
    shown = token("list")
    local = datetime.fromisoformat(made["expires_at"]).astimezone()
    assert local.strftime("%Y-%m-%d %H:%M:%S") in shown, "as other times"
    assert "is revoked" in token("revoke", "ci")
    refused = person("get", "nodes", URL=f"http://127.0.0.1:{port}", TOKEN=made["token"])
    assert_clear_error(refused, "was revoked .it is from VXLAN_OPERATOR_TOKEN")
    assert "token/ci" not in token("list", "-o", "name").split()
    assert "token/ci" in token("list", "--revoked", "-o", "name").split()


def test_a_token_in_the_database_itself(person: Person, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'controller.db'}"
    open_database(url).close()
    arguments = ("token", "create", "rescue", "--role", "admin", "--database-url", url)
    made = json.loads(person.says(*arguments, "-o", "json"))
    database = open_database(url)
    with database.read() as session:
        assert session.get_one(ApiToken, made["id"]).created_by == "system"
    database.close()
    assert_clear_error(person(*arguments), "rescue")


def tokens(database: Database) -> list[ApiToken]:
    with database.read() as session:
        return session.query(ApiToken).all()


def test_the_first_token(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "api-token"
    first_token.ensure(database, file)
    (row,), secret = tokens(database), read_token(file)
    assert secret is not None
    assert (row.id, row.digest, row.role) == (secret.id, secret.digest, "admin")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first_token.ensure(database, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert len(tokens(database)) == 1
    wipe(database)
    before = file.read_bytes()
    first_token.ensure(database, file)
    assert file.read_bytes() == before, "never overwritten"
    assert tokens(database)[0].digest == secret.digest, "taken over"


@pytest.mark.parametrize("kind", ["foreign", "writable", "link"])
def test_the_first_token_is_not_another_users(sqlite: Database, tmp_path: Path, kind: str) -> None:
    """Who can put a file there would be an admin."""
    file = tmp_path / "api-token"
    real = tmp_path / "real" if kind == "link" else file
    real.write_text(f"{ADMIN.text}\n")
    real.chmod(0o666 if kind == "writable" else 0o600)
    if kind == "link":
        file.symlink_to(real)
    if kind != "writable":
        if os.geteuid() != 0:
            pytest.skip("needs root to give a file to another user")
        os.chown(file, 65534, 65534, follow_symlinks=False)
    with pytest.raises(OperatorError, match="another user"):
        first_token.ensure(sqlite, file)
    assert tokens(sqlite) == []


def test_a_dangling_link_gets_no_token(sqlite: Database, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "api-token", tmp_path / "elsewhere"
    file.symlink_to(elsewhere)
    with pytest.raises(OperatorError, match="cannot be written"):
        first_token.ensure(sqlite, file)
    assert not elsewhere.exists()
    assert tokens(sqlite) == []


_MAKE = """
import sys
from pathlib import Path
from controller.access import first_token
from controller.db.engine import open_database
database = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
first_token.ensure(database, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("files", [1, 4])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_controllers_that_start_together_make_one_token(
    postgres_server: PostgresServer, tmp_path: Path, kind: str, files: int
) -> None:
    """Each is a process; on one machine with one file, or each on a machine with a file of its own."""
    url = f"sqlite:///{tmp_path / 'controller.db'}"
    if kind == "postgresql":
        url = postgres_server.new_database()
    database = open_database(url)
    folders = [tmp_path / f"{number % files}" for number in range(4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _MAKE, url, str(folder / "api-token")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for folder in folders
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=60)
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
    (row,) = tokens(database)
    (file,) = tmp_path.glob("*/api-token*")
    secret = read_token(file)
    assert secret is not None
    assert (secret.id, secret.digest) == (row.id, row.digest)
    database.close()
