"""The verb `vxctl login`: a token, checked by the controller and kept with its URL as a context."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from contract.runtime.errors import UsageError
from controller.access.tokens import Secret
from controller.cli import contexts
from controller.cli.client import Client
from controller.cli.connection import Connection, is_loopback, resolve, using
from controller.cli.output import formats, table

_MAX_CHARACTERS: Final = 4096


def login(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Of the controller (default: as the other verbs)."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(metavar="CONTEXT", help="Name of the context (default: the URL's host)."),
    ] = None,
    ca: Annotated[
        str | None, typer.Option(metavar="FILE", help="CA of the controller's certificate.")
    ] = None,
) -> None:
    known = contexts.read()
    if url is None:
        old = known.by_name.get(context) if context else None
        url = old.url if old else resolve().url
    url = url.rstrip("/")
    name = contexts.checked_name(context or _name(url, known))
    before = known.by_name.get(name)
    if ca is None:
        ca = before.ca if before is not None and before.url == url else resolve(url).ca
    kept = None if ca is None else str(Path(ca).absolute())
    if url.lower().startswith("http:") and not is_loopback(url):
        table.note("warning: the URL is not https: others on the way can read the token")
    entry = contexts.ControllerContext(url, _ask(url).text, None, kept)
    with using(Connection(url, ca=kept, context=entry, by_option=True)):
        caller = Client(url).get("whoami")
    contexts.write(contexts.Contexts(name, known.by_name | {name: entry}))
    end = "" if caller["expires_at"] is None else f", until {formats.clock(caller['expires_at'])}"
    table.line(
        f"logged in to {url} as {caller['name']} with the role {caller['role']}{end}; "
        f"context {name} is the current one"
    )


def _ask(url: str) -> Secret:
    if sys.stdin.isatty():
        given = getpass.getpass(f"token for {url}: ")
    else:
        given = sys.stdin.buffer.readline(_MAX_CHARACTERS).decode("ascii", "replace")
    secret = Secret.parse(given.strip())
    if secret is None:
        raise UsageError(
            "this is no token (vxo_, 8 characters, _, 43 characters)",
            "an admin creates one: `vxctl token create NAME --role ROLE`",
        )
    return secret


def _name(url: str, known: contexts.Contexts) -> str:
    """Return the name of the context that has this URL, or else the URL's host."""
    for name, context in known.by_name.items():
        if context.url == url:
            return name
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host:
        raise UsageError(f"{url!r} is not a URL", "write it as https://HOST:PORT")
    return host.replace(":", "-").strip("-")[:64] or "controller"
