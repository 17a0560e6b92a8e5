"""The verbs about the database's schema: they work on the database itself, and need no controller."""

from contextlib import closing
from typing import Annotated

import typer

from controller.cli.output import table

Database = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="VXLAN_OPERATOR_DATABASE_URL",
        show_default=False,
        help="As the controller's, and with the same default.",
    ),
]


def install(app: typer.Typer) -> None:
    """Add the verbs, as a group."""
    group = typer.Typer(no_args_is_help=True, help="Look after the schema of the database.")
    for verb in (current, upgrade, check):
        group.command()(verb)
    app.add_typer(group, name="db")


def current(database_url: Database = None) -> None:
    """Show which version the schema has. Changes nothing."""
    from controller.db.engine import open_to_look
    from controller.db.schema import version

    with open_to_look(_url(database_url)) as connection:
        found = version(connection)
    if found.current == found.head:
        table.line(f"{found.current} (the newest)")
    else:
        table.line(f"{found.current or 'none'} (the newest is {found.head}: `vxctl db upgrade`)")


def upgrade(database_url: Database = None) -> None:
    """Bring the schema up to date, as a controller does when it starts; all of it, or nothing."""
    from controller.db.engine import open_database
    from controller.db.schema import version

    with (
        closing(open_database(_url(database_url))) as database,
        database.engine.connect() as connection,
    ):
        table.line(f"the database has schema {version(connection).current}")


def check(database_url: Database = None) -> None:
    """Tell whether the schema is what this version needs. Changes nothing; exit status 1 if it is not."""
    from controller.db.engine import open_to_look
    from controller.db.schema import differences

    with open_to_look(_url(database_url)) as connection:
        found = differences(connection)
    for difference in found:
        table.line(difference)
    if found:
        raise typer.Exit(1)
    table.line("the database is as it should be")


def _url(given: str | None) -> str:
    from controller.process.settings import CoreSettings

    return given or str(CoreSettings.model_fields["database_url"].default.get_secret_value())
