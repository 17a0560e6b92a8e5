"""The verb about the broker's users: `vxctl broker acl`."""

from pathlib import Path
from typing import Annotated, Final

import typer

from contract.runtime import acl
from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.files import open_regular, replacing
from contract.runtime.password_file import make_password, read_password
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Url
from controller.cli.output import table

_ACLFILE: Final = "users.acl"
_MAX_BYTES: Final = 100_000_000


def acl_(
    bootstrap: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Make the passwords of `controller` and `join` in this folder, and users.acl for Redis, "
            "without a controller. Passwords that are there stay.",
        ),
    ] = None,
    passwords: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with the passwords that --bootstrap made."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the aclfile here (mode 0600) instead."),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    if (bootstrap is None) == (passwords is None):
        raise UsageError(
            "either --bootstrap or --passwords is needed",
            "before the first start: vxctl broker acl --bootstrap DIR",
        )
    if bootstrap is not None:
        _bootstrap(bootstrap, file or bootstrap / _ACLFILE)
        return
    assert passwords is not None  # noqa: S101 -- one of the two is given
    text = _users(passwords, make=False) + _nodes(Client(url))
    if file is None:
        table.line(*text.splitlines())
    else:
        _write(file, text)


def _bootstrap(folder: Path, file: Path) -> None:
    text = _users(folder, make=True)
    if _read(file) != text:
        _write(file, text)
    table.line(f"{file}: the users `controller` and `join`, for redis-server --aclfile")
    for user in (acl.CONTROLLER_USER, acl.JOIN_USER):
        table.line(f"{_password_file(folder, user)}: the password of `{user}`")


def _users(folder: Path, *, make: bool) -> str:
    """Return the lines of all users that are no nodes'."""
    rules = {acl.CONTROLLER_USER: acl.of_controller, acl.JOIN_USER: acl.of_join}
    lines = [acl.NO_DEFAULT]
    for user, of in rules.items():
        path = _password_file(folder, user)
        password = read_password(path)
        if password is None:
            if not make:
                raise OperatorError(
                    f"there is no password file {path}", f"vxctl broker acl --bootstrap {folder}"
                )
            password = make_password(path)
        lines.append(acl.line(user, of(acl.digest(password))))
    return "".join(lines)


def _nodes(client: Client) -> str:
    """Return the lines of the users of all nodes whose workers are believed."""
    return "".join(
        acl.line(acl.node_user(row["node_id"]), acl.of_node(row["node_id"], row["broker_password"]))
        for row in client.get("node-keys")["items"]
        if row["state"] == "trusted" and row["broker_password"] is not None
    )


def _password_file(folder: Path, user: str) -> Path:
    return folder / f"{user}.password"


def _read(file: Path) -> str:
    """Return what is in a file; nothing, if it is not there."""
    try:
        with open_regular(file, "rb") as present:
            return present.read(_MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OperatorError(
            f"the aclfile {file} cannot be read: {error.strerror}", f"ls -l {file}"
        ) from error


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(file) as new:
            new.write(text.encode())
    except OSError as error:
        raise OperatorError(
            f"the aclfile {file} cannot be written: {error.strerror}", f"ls -ld {file.parent}"
        ) from error
