"""The verb `vxctl suppressed`: the devices whose removal something holds back, and what ends that."""

import sys
from typing import Annotated, Final

import typer

from contract.verdicts import HeldBack
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Limit, ListOutput, NetworkOption, NodeOption, Url
from controller.cli.output import columns, formats, structured, table
from controller.cli.output.table import Row

_MAX_HOLDS: Final = 20
"""Different holds that are told below the devices."""


def suppressed(
    node: NodeOption = None,
    network: NetworkOption = None,
    reason: Annotated[
        HeldBack | None, typer.Option(help="Only devices that this holds back.")
    ] = None,
    limit: Limit = 1000,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    filters = {"node": node, "network": network, "reason": reason}
    pages = [*Client(url).pages("suppressed", limit, **filters)]
    found = [row for page in pages for row in page["items"]]
    formats.show(
        found, output, lambda rows: _show(rows, wide=output == "wide"), kind=structured.DEVICE
    )
    if pages[-1]["next"] is not None and output in ("table", "wide"):
        sys.stderr.write(f"the first {limit}; --limit for more\n")


def _show(rows: list[Row], *, wide: bool) -> None:
    """Print a row per device, and below them once what holds back, and what ends it."""
    shown = [*columns.SUPPRESSED, *(columns.SUPPRESSED_WIDE if wide else ())]
    table.table(shown, rows, empty="nothing is held back", fold=not wide)
    holds = {hold["text"]: hold for row in rows for hold in row["held_back"]}
    if not rows or wide:
        return
    table.section("What holds them back", columns.HOLDS, [*holds.values()][:_MAX_HOLDS])
    if len(holds) > _MAX_HOLDS:
        table.line(f"and {len(holds) - _MAX_HOLDS} more: -o wide")
