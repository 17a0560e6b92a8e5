"""`vxctl stack secrets`: what it makes fits together, and is made once."""

import hashlib
import ssl
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.key_file import read_key
from contract.signing.join import JoinToken
from controller.access.token_file import read_token
from controller.cli.commands import app
from controller.cli.stack import _RENEWABLE
from controller.process.settings import ControllerSettings
from worker.settings import WorkerSettings

ADDRESS = "192.0.2.7"


def made(folder: Path, *options: str, address: str = ADDRESS) -> str:
    """What it says."""
    result = CliRunner().invoke(
        app, ["stack", "secrets", str(folder), "--address", address, *options]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.output


def contents(folder: Path) -> dict[str, bytes]:
    """All files of the folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all of them."""
    made(tmp_path / "secrets")
    return tmp_path / "secrets"


def test_they_are_for_their_owner_alone_and_made_once(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    before = contents(folder)
    assert made(folder) == "all secrets are there\n"
    assert contents(folder) == before


def test_one_that_broke_off_is_gone_on_with(folder: Path) -> None:
    before = contents(folder)
    for name in ("server-cert", "redis-acl", "api-token", "broker-url-worker"):
        (folder / name).unlink()
    assert made(folder) == "made: api-token broker-url-worker redis-acl server-cert\n"
    after = contents(folder)
    for name in ("signing-key", "join-token", "ca", "database-url", "broker-url-controller"):
        assert after[name] == before[name]
    assert_users(folder)


def assert_users(folder: Path) -> None:
    """The passwords in the URLs are those of Redis' users."""
    users = (folder / "redis-acl").read_text()
    assert "user default off\n" in users
    for program in ("controller", "worker"):
        url = (folder / f"broker-url-{program}").read_text().strip()
        user, _, password = url.removeprefix("rediss://").partition("@")[0].partition(":")
        digest = hashlib.sha256(password.encode()).hexdigest()
        (line,) = [line for line in users.splitlines() if line.startswith(f"user {user} ")]
        assert f" #{digest} " in line
        assert password not in users


def test_the_programs_take_them(folder: Path) -> None:
    assert_users(folder)
    controller = ControllerSettings.load(
        {
            "broker_url_file": str(folder / "broker-url-controller"),
            "broker_ca": str(folder / "ca"),
            "database_url_file": str(folder / "database-url"),
        }
    )
    assert f"@{ADDRESS}:8480" in controller.broker().url
    assert "sslmode=verify-full" in controller.database_url.get_secret_value()
    worker = WorkerSettings.load({"join_token_file": str(folder / "join-token")})
    token, controllers = worker.keys()
    key = read_key(folder / "signing-key")
    assert key is not None
    assert token is not None
    assert controllers == key.public
    assert read_token(folder / "api-token") is not None


@pytest.mark.parametrize("address", [ADDRESS, "2001:db8::7"])
def test_the_certificates_are_taken_by_a_strict_client(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "secrets"
    made(folder, address=address)
    for authority, name, purpose in (
        ("ca", "server-cert", "sslserver"),
        ("database-ca", "database-server-cert", "sslserver"),
        ("database-ca", "database-cert", "sslclient"),
    ):
        checked = [
            *("openssl", "verify", "-x509_strict", "-purpose", purpose),
            *("-CAfile", str(folder / authority), str(folder / name)),
        ]
        if purpose == "sslserver":
            checked[2:2] = ["-verify_ip", address]
        subprocess.run(checked, check=True, capture_output=True, timeout=30)
    context = ssl.create_default_context(cafile=str(folder / "database-ca"))
    context.load_cert_chain(str(folder / "database-cert"), str(folder / "database-key"))


def issued(folder: Path, authority: str, name: str) -> bool:
    """Whether an authority signed a certificate, and its key is the one beside it."""
    ssl.create_default_context().load_cert_chain(
        str(folder / name), str(folder / name.replace("-cert", "-key"))
    )
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", str(folder / authority), str(folder / name)],
        check=False,
        capture_output=True,
        timeout=30,
    )
    return done.returncode == 0


def test_who_has_the_key_of_redis_is_not_taken_for_the_database(folder: Path) -> None:
    assert not issued(folder, "database-ca", "server-cert")
    assert not issued(folder, "ca", "database-server-cert")
    assert "&sslrootcert=/run/secrets/database-ca&" in (folder / "database-url").read_text()


@pytest.mark.parametrize("count", range(1, 11))
def test_a_renewal_that_broke_off_leaves_no_certificates_that_do_not_fit(
    folder: Path, count: int
) -> None:
    for name in _RENEWABLE["certificates"][:count]:
        (folder / name).unlink()
    made(folder)
    for authority, name in (
        ("ca", "server-cert"),
        ("database-ca", "database-server-cert"),
        ("database-ca", "database-cert"),
    ):
        assert issued(folder, authority, name)
    assert made(folder) == "all secrets are there\n"


def test_what_is_renewed_is_new_and_the_rest_stays(folder: Path) -> None:
    before = contents(folder)
    made(folder, "--renew", "broker")
    changed = {name for name, content in contents(folder).items() if content != before[name]}
    assert changed == {"broker-url-controller", "broker-url-worker", "redis-acl"}
    assert_users(folder)
    made(folder, "--renew", "join-token", "--renew", "certificates")
    changed = {name for name, content in contents(folder).items() if content != before[name]}
    assert {"join-token", "ca", "server-key", "database-cert"} <= changed
    assert contents(folder)["signing-key"] == before["signing-key"]
    text = (folder / "join-token").read_text().strip()
    key = read_key(folder / "signing-key")
    assert key is not None
    assert JoinToken.parse(text).controllers == key.public


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "node1", "", "::1"])
def test_an_address_that_nobody_else_reaches_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="no address at which other nodes reach this one"):
        made(tmp_path / "secrets", address=address)
    assert not (tmp_path / "secrets").exists()


@pytest.mark.parametrize(
    ("renewed", "named"),
    [
        ((), "database-url"),
        (("broker",), "database-url"),
        (("certificates",), "broker-url-controller"),
    ],
)
def test_those_for_another_address_are_told_before_any_is_made(
    folder: Path, renewed: tuple[str, ...], named: str
) -> None:
    before = contents(folder)
    options = [option for name in renewed for option in ("--renew", name)]
    with pytest.raises(
        OperatorError, match=rf"{named} is for another address than 192\.0\.2\.8"
    ) as told:
        made(folder, *options, address="192.0.2.8")
    assert "--renew broker --renew certificates" in told.value.hint
    assert contents(folder) == before


@pytest.mark.parametrize("address", ["192.0.2.8", "2001:db8::8"])
def test_a_new_address_needs_new_passwords_and_certificates_alone(
    folder: Path, address: str
) -> None:
    before = contents(folder)
    made(folder, "--renew", "broker", "--renew", "certificates", address=address)
    after = contents(folder)
    kept = {name for name, content in after.items() if content == before[name]}
    assert kept == {"signing-key", "join-token", "api-token"}
    for name in ("database-url", "broker-url-controller", "broker-url-worker"):
        assert ADDRESS.encode() not in after[name]
        assert address.encode() in after[name]
    subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_ip", address),
            *("-CAfile", str(folder / "ca"), str(folder / "server-cert")),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert made(folder, address=address) == "all secrets are there\n"


def test_what_cannot_be_renewed_is_told(folder: Path) -> None:
    with pytest.raises(UsageError, match="nothing is called 'signing-key'"):
        made(folder, "--renew", "signing-key")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"cannot be made"):
        made(tmp_path / "file")
