"""How this command's output looks, by its options: headings, order, pages, colours."""

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """The options that every listing has.

    Attributes:
        headings: whether a table has a line of headings.
        sort_by: a field of the JSON (`last_run.at`), after `-` in reverse; None: the API's order.
        pages: whether long output on a terminal goes to a pager.
    """

    headings: bool = True
    sort_by: str | None = None
    pages: bool = True


_style = Style()


def use(style: Style) -> None:
    """Set the style of this command, which is this process's."""
    global _style  # noqa: PLW0603 -- one command a process
    _style = style


def current() -> Style:
    """Return the style of this command."""
    return _style


def has_colours() -> bool:
    """Whether standard output shows colours: a terminal that is not dumb, and no NO_COLOR (no-color.org)."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )
