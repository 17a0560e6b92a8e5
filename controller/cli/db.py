"""The verbs about the schema of the database: `vxctl db`; they need no controller."""

import os
from contextlib import closing
from typing import Annotated

import typer

from contract.runtime.exit_status import ExitStatus
from controller.cli.output import table

Database = Annotated[
    str | None,
    typer.Option(
        envvar="VXLAN_OPERATOR_DATABASE_URL",
        metavar="URL",
        help="Database (default: that of VXLAN_OPERATOR_DATABASE_URL_FILE, or the controller's).",
    ),
]


def current(database_url: Database = None) -> None:
    from controller.db.engine import open_to_look
    from controller.db.schema import version

    with open_to_look(_url(database_url)) as connection:
        found = version(connection)
    newer = "" if found.current == found.head else f" is {found.head}: `vxctl db upgrade`"
    table.line(f"{found.current or 'none'} (the newest{newer})")


def upgrade(database_url: Database = None) -> None:
    from controller.db.engine import open_database
    from controller.db.schema import version

    with closing(open_database(_url(database_url))) as database, database.engine.connect() as found:
        table.line(f"the database has schema {version(found).current}")


def check(database_url: Database = None) -> None:
    from controller.db.engine import open_to_look
    from controller.db.schema import differences

    with open_to_look(_url(database_url)) as connection:
        found = differences(connection)
    table.line(*(found or ["the schema is correct"]))
    if found:
        raise typer.Exit(ExitStatus.NO)


def _url(given: str | None) -> str:
    from contract.runtime.settings import default_text
    from contract.runtime.variables import PREFIX, refuse_unknown
    from controller.process.settings import CoreSettings

    refuse_unknown()
    variable = f"{PREFIX}DATABASE_URL_FILE"
    if not given and (file := os.environ.get(variable)):
        from contract.runtime.secret_file import read_secret

        return read_secret(file, variable)
    return given or default_text(CoreSettings.model_fields["database_url"])
