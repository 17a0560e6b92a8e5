"""The verb `vxctl doctor`: what a controller on this machine needs, checked without a controller."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from contract import VERSION
from contract.runtime.dockerd import Docker
from contract.runtime.doctor import broker, checks, docker, machine
from contract.runtime.doctor.checks import Result, fail, ok, warn
from contract.runtime.errors import OperatorError
from controller.cli.options import DEFAULT_URL, Output, Url
from controller.cli.output import formats
from controller.cli.output.structured import Kind

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TIMEOUT_SECONDS: Final = 4.0
_LOCK_SECONDS: Final = 3.0
_CHECK: Final = Kind.of("check", "check")
_API: Final = "controller"
_DATABASE: Final = "database"


def doctor(
    database_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Database (default: the controller's).")
    ] = None,
    broker_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Redis (default: the controller's).")
    ] = None,
    docker_host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Docker APIs of managers (default: the controller's)."),
    ] = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    from controller.process.settings import ControllerSettings

    given = {"database_url": database_url, "broker_url": broker_url, "docker_host": docker_host}
    settings = ControllerSettings.load(given)
    database = settings.database_url.get_secret_value()
    results = checks.run(
        {
            "version": lambda: machine.versions("vxctl"),
            "docker": lambda: _managers(settings.dockers()),
            "broker": lambda: broker.check(settings.broker()),
            _DATABASE: lambda: _database(database),
            "notifications": lambda: _notifications(database),
            "keys": lambda: _keys(settings.signing_key, database),
            "archive": lambda: _archive(settings.audit_archive_directory),
            _API: lambda: _controller(url),
        }
    )
    formats.show(
        [asdict(result) for result in results], output, lambda _: checks.show(results), kind=_CHECK
    )
    raise typer.Exit(checks.status(results))


def _managers(dockers: Sequence[Docker]) -> Iterator[Result]:
    for manager in dockers:
        yield from docker.check(manager, manager=True)
    swarms = {id_ for manager in dockers if (id_ := docker.swarm_id(manager))}
    if len(swarms) > 1:
        message = f"the managers are of {len(swarms)} Swarms: {', '.join(sorted(swarms))}"
        yield fail("swarm", message, "name managers of one Swarm in VXLAN_OPERATOR_DOCKER_HOST")


def _database(url: str) -> Iterator[Result]:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from controller.db.engine import database_message, open_to_look

    try:
        parsed = make_url(url)
        file = None
        if parsed.drivername == "sqlite":
            file = Path(str(parsed.database)).resolve()
            yield from machine.folder(_DATABASE, file, private=True)
            if not file.exists():
                return
        with open_to_look(url) as connection:
            yield from _schema(connection)
            if file is None:
                yield from _postgresql(connection)
    except OperatorError as error:
        yield fail(_DATABASE, error.problem, error.hint)
    except ArgumentError:  # Its text may contain the password.
        yield fail(_DATABASE, "the URL is wrong", "set VXLAN_OPERATOR_DATABASE_URL")
    except SQLAlchemyError as error:
        yield fail(_DATABASE, database_message(error), "look at the database's log")
    else:
        if file is not None:
            yield from _takes_writes(file)


def _schema(connection: "Connection") -> Iterator[Result]:
    from controller.db.schema import version

    found = version(connection)
    kind = connection.dialect.name
    if found.current == found.head:
        yield ok("schema", f"{kind} with schema {found.current}")
        return
    message = f"{kind} has schema {found.current or 'none'}, and {found.head} is needed"
    yield warn("schema", message, "start the controller, which upgrades it, or `vxctl db upgrade`")


def _postgresql(connection: "Connection") -> Iterator[Result]:
    """Check that a server takes writes, and its clock."""
    from sqlalchemy import text

    standby, allowed, now = connection.execute(
        text(
            "SELECT pg_is_in_recovery(), has_table_privilege(to_regclass('audit'), 'INSERT'), "
            "extract(epoch FROM clock_timestamp())"
        )
    ).one()
    if standby:
        hint = "add target_session_attrs=read-write and the other hosts to the URL"
        yield fail(_DATABASE, "this server is a standby, which cannot be written", hint)
    elif allowed is False:
        yield fail(_DATABASE, "this user may not write", "GRANT it the rights on all tables")
    else:
        yield ok(_DATABASE, "it can be written")
    yield broker.clock("clock of database", float(now) - time.time(), "the database")


def _keys(given: str, url: str) -> Iterator[Result]:
    """Check the controllers' private key against the database, and say what waits for a person."""
    from sqlalchemy import func, select
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from controller.db.engine import open_to_look
    from controller.db.key_models import ControllerKey, NodeKey
    from controller.db.states import ControllerKeyState, NodeKeyState
    from controller.trust import own_key

    file = own_key.key_file(given, url)
    yield from machine.private("keys", file)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    try:
        with open_to_look(url) as connection:
            rows = connection.execute(select(ControllerKey.id, ControllerKey.state)).all()
            waiting = connection.scalar(
                select(func.count()).where(NodeKey.state == NodeKeyState.PENDING)
            )
    except (OperatorError, ArgumentError, SQLAlchemyError):
        return  # What is wrong with the database is said with it.
    states = {row.state: row.id for row in rows}
    signing = states.get(ControllerKeyState.SIGNING)
    if signing is None:
        yield ok("keys", "none yet: the first start of a controller makes one")
    else:
        try:
            own_key.load(file, signing)
        except OperatorError as error:
            yield fail("keys", error.problem, error.hint)
        else:
            yield ok("keys", f"the controllers sign with {signing}, which {file} holds")
    if following := states.get(ControllerKeyState.NEXT):
        message = f"a rotation to the key {following} is not finished"
        yield warn("keys", message, "`vxctl keys rotate --finish`")
    if waiting:
        message = f"{waiting} key(s) of nodes wait for a person"
        yield warn("keys", message, "`vxctl node keys` shows them, `vxctl node trust` takes one")


def _notifications(url: str) -> Iterator[Result]:
    """Say which targets of notifications fail, as the controller stored it."""
    from sqlalchemy import select
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from controller.db.engine import open_to_look
    from controller.db.notification_models import NotificationTarget

    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    target = NotificationTarget
    try:
        with open_to_look(url) as connection:
            rows = connection.execute(
                select(target.name, target.failing_since, target.error).order_by(target.name)
            ).all()
    except (OperatorError, ArgumentError, SQLAlchemyError):
        return  # What is wrong with the database is said with it.
    for row in rows:
        if row.failing_since is not None:
            message = (
                f"target {row.name} fails since {row.failing_since:%Y-%m-%d %H:%M} UTC: {row.error}"
            )
            yield warn("notifications", message, f"`vxctl notify test {row.name}` shows its answer")
    if all(row.failing_since is None for row in rows):
        yield ok("notifications", f"{len(rows)} target(s), and none fails")


def _takes_writes(file: Path) -> Iterator[Result]:
    """Check that SQLite lets us write, by a transaction without a change."""
    if file.stat().st_uid != os.geteuid():
        return  # It would make files of ours beside the owner's.
    try:
        with closing(sqlite3.connect(file, timeout=_LOCK_SECONDS, isolation_level=None)) as found:
            found.execute("BEGIN IMMEDIATE")
            found.execute("ROLLBACK")
    except sqlite3.Error as error:
        hint = "`vxctl status` shows whether the controller can; make room on the disk"
        yield fail(_DATABASE, f"it cannot be written: {error}", hint)


def _archive(folder: Path) -> Iterator[Result]:
    if not folder.exists():
        yield ok("archive", f"{folder} is not there: needed once AUDIT_RETENTION_DAYS is set")
        return
    yield from machine.folder("archive", folder / "archive", private=False)


def _controller(url: str) -> Iterator[Result]:
    import httpx

    from controller.api import IDENTITY_HEADER
    from controller.cli.client import tls_error
    from controller.cli.connection import connection_to

    try:
        tls = connection_to(url).tls()
        answer = httpx.get(f"{url.rstrip('/')}/readyz", timeout=_TIMEOUT_SECONDS, verify=tls)
    except OperatorError as error:
        yield fail(_API, error.problem, error.hint)
        return
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        if refused := tls_error(url, error):
            yield fail(_API, refused.problem, refused.hint)
            return
        hint = "start it (`vxctl controller`), or set VXLAN_OPERATOR_URL"
        yield warn(_API, f"none answers at {url}: {str(error) or type(error).__name__}", hint)
        return
    version = answer.headers.get(IDENTITY_HEADER)
    if version is None:
        yield fail(_API, f"the server at {url} is not a controller", "correct VXLAN_OPERATOR_URL")
        return
    if version != VERSION:
        message = f"it has version {version}, vxctl has {VERSION}"
        yield warn("versions", message, "upgrade the older one")
    if answer.is_success:
        yield ok(_API, f"{version} at {url} is ready")
    else:
        yield fail(_API, _detail(answer.json), "`vxctl status` shows more")
    yield _token(url)
    try:
        date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return
    # The header has whole seconds.
    yield broker.clock("clock of controller", date + 0.5 - time.time(), "the controller")


def _token(url: str) -> Result:
    """Check the token that the other verbs would send."""
    from controller.cli.client import Client

    try:
        caller = Client(url).get("whoami")
    except OperatorError as error:
        return fail("token", error.problem, error.hint)
    return ok("token", f"{caller['name']} with the role {caller['role']}")


def _detail(read: Callable[[], object]) -> str:
    """Return the detail of a problem."""
    try:
        problem = read()
    except ValueError:
        problem = None
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return f"it is not ready: {detail or 'it does not say why'}"
