"""The verb `vxctl version`: of this program, the controller, its database schema, and the workers."""

import platform
from typing import Annotated, Any

import typer

from contract import VERSION
from contract.runtime.errors import OperatorError
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, Url
from controller.cli.output import formats, table


def version(
    client: Annotated[
        bool, typer.Option("--client", help="Only this program; asks no controller.")
    ] = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    found: dict[str, Any] = {
        "client": {"version": VERSION, "python": platform.python_version()},
        "controller": None,
        "error": None,
    }
    if not client:
        try:
            found["controller"] = Client(url).get("version")
        except OperatorError as error:
            found["error"] = error.problem
    formats.show(found, output, _show)


def _show(found: dict[str, Any]) -> None:
    table.line(f"vxctl {found['client']['version']}")
    if found["error"] is not None:
        table.line(f"controller: unknown: {found['error']}")
    controller = found["controller"]
    if controller is None:
        return
    schema = controller["schema_current"] or "none"
    if schema != controller["schema_newest"]:
        schema += f" (the newest is {controller['schema_newest']})"
    table.line(f"controller {controller['version']}, {controller['database']} with schema {schema}")
    versions = [
        f"{row['nodes']} with {row['version']}" if row["version"] else f"{row['nodes']} never seen"
        for row in controller["workers"]
    ]
    table.line(f"workers: {', '.join(versions) or 'none'}")
    different = {row["version"] for row in controller["workers"]} - {None, controller["version"]}
    if different:
        table.line("Versions differ: finish the upgrade of the workers (docs/upgrade.md).")
