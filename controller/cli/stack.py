"""The verb `vxctl stack secrets`: what compose.yml needs as secrets, made before any controller runs."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Final

import typer

from contract.runtime.errors import OperatorError, UsageError
from controller.cli.output import table

REDIS_PORT: Final = 8480
DATABASE_PORT: Final = 8481
"""As in compose.yml: beside the API's 8479, and none that a Redis or PostgreSQL of the host may have."""
_DATABASE: Final = "vxlan_operator"
_SECRETS: Final = "/run/secrets"
_LOOPBACK: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_URLS: Final = ("database-url", "broker-url-controller", "broker-url-worker")
"""What names the address; so do the certificates."""
_RENEWABLE: Final = {
    "broker": ("broker-url-controller", "broker-url-worker", "redis-acl"),
    "certificates": (
        *("ca", "ca.key", "server-cert", "server-key"),
        *("database-ca", "database-ca.key", "database-server-cert", "database-server-key"),
        *("database-cert", "database-key", "database-url"),
    ),
    "join-token": ("join-token",),
}


def secrets(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for them, made if it is missing.")
    ],
    address: Annotated[
        str,
        typer.Option(
            metavar="IP",
            help="Address at which all nodes reach the manager with Redis and PostgreSQL.",
        ),
    ],
    renew: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(_RENEWABLE), help="Make these again, new; may be given several times."
        ),
    ] = None,
) -> None:
    where = _address(address)
    for name in renew or ():
        if name not in _RENEWABLE:
            raise UsageError(f"nothing is called {name!r}", f"--renew {'|'.join(_RENEWABLE)}")
    renewed = [file for name in renew or () for file in _RENEWABLE[name]]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _compare_address(folder, where, renewed)
        for file in renewed:
            (folder / file).unlink(missing_ok=True)
        before = {file.name for file in folder.iterdir()}
        _make(folder, where)
        made = sorted({file.name for file in folder.iterdir()} - before)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise OperatorError(
            f"the secrets in {folder} cannot be made: {words}", f"ls -la {folder}"
        ) from error
    table.line(f"made: {' '.join(made)}" if made else "all secrets are there")


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or found.is_unspecified or found.is_loopback:
        raise UsageError(
            f"{text!r} is no address at which other nodes reach this one",
            "--address \"$(docker info --format '{{.Swarm.NodeAddr}}')\"",
        )
    return found


def _compare_address(
    folder: Path, address: IPv4Address | IPv6Address, renewed: Collection[str]
) -> None:
    """Raise OperatorError if a URL that stays is for another address."""
    for name in _URLS:
        file = folder / name
        if name not in renewed and file.exists() and f"@{_host(address)}:" not in file.read_text():
            raise OperatorError(
                f"{name} is for another address than {address}",
                "give --address as before; or, for a new address: --renew broker --renew certificates",
            )


def _host(address: IPv4Address | IPv6Address) -> str:
    """Return it as in a URL."""
    return f"[{address}]" if address.version == 6 else str(address)


def _make(folder: Path, address: IPv4Address | IPv6Address) -> None:
    """Make what is missing; what is there stays, so one that broke off is gone on with."""
    from contract.runtime.files import create
    from contract.runtime.key_file import make_key, read_key
    from contract.signing.join import JoinToken
    from controller.access.token_file import read_token, write_token
    from controller.access.tokens import Secret
    from controller.cli.authority import Authority

    # Two, so that who has Redis' key is not taken for the database.
    for authority, part in (("ca", "server"), ("database-ca", "database-server")):
        signs = Authority(folder / authority, folder / f"{authority}.key")
        signs.sign(
            f"vxlan-operator {part}",
            folder / f"{part}-cert",
            folder / f"{part}-key",
            addresses=(address, *_LOOPBACK),
        )
    # PostgreSQL takes the common name for the user.
    signs.sign(_DATABASE, folder / "database-cert", folder / "database-key")
    host = _host(address)
    files = (
        ("sslrootcert", "database-ca"),
        ("sslcert", "database-cert"),
        ("sslkey", "database-key"),
    )
    options = "&".join(f"{option}={_SECRETS}/{name}" for option, name in files)
    url = f"postgresql+psycopg://{_DATABASE}@{host}:{DATABASE_PORT}/{_DATABASE}?sslmode=verify-full&{options}"
    _text(folder / "database-url", url)
    _users(folder, host)
    key = read_key(folder / "signing-key") or make_key(folder / "signing-key")
    if not (folder / "join-token").exists():
        create(folder / "join-token", f"{JoinToken.create(key.public).text()}\n".encode())
    if read_token(folder / "api-token") is None:
        write_token(folder / "api-token", Secret.generate())


def _users(folder: Path, host: str) -> None:
    """Make the users of Redis, and the URLs with their passwords."""
    from secrets import token_urlsafe
    from urllib.parse import urlsplit

    from contract.runtime import acl
    from contract.runtime.files import create

    lines = [acl.NO_DEFAULT]
    for user, program, rules in (
        (acl.CONTROLLER_USER, "controller", acl.of_controller),
        (acl.JOIN_USER, "worker", acl.of_join),
    ):
        file = folder / f"broker-url-{program}"
        if not file.exists():
            # Whose password it was is not known any more.
            (folder / "redis-acl").unlink(missing_ok=True)
        _text(file, f"rediss://{user}:{token_urlsafe(32)}@{host}:{REDIS_PORT}/0")
        password = urlsplit(file.read_text().strip()).password or ""
        lines.append(acl.line(user, rules(acl.digest(password))))
    if not (folder / "redis-acl").exists():
        create(folder / "redis-acl", "".join(lines).encode())


def _text(file: Path, text: str) -> None:
    """Make a file of one line, unless it is there."""
    from contract.runtime.files import create

    if not file.exists():
        create(file, f"{text}\n".encode())
