"""The part of docs/explain.md that is made from the catalogue: `python -m tests.explain_page` writes it."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from controller.explain.catalogue import Entry, Kind, catalogue

PAGE: Final = Path(__file__).parents[1] / "docs" / "explain.md"
MARK: Final = (
    "<!-- From here on: made from controller/explain/catalogue.toml by tests/explain_page.py -->"
)


def section() -> str:
    """All entries, each with an anchor of its id."""
    parts = ["## Faults", *map(_entry, catalogue().entries)]
    parts += ["## Devices", *map(_entry, catalogue().kinds)]
    return "\n\n".join(parts) + "\n"


def _entry(entry: Entry | Kind) -> str:
    return "\n".join(_lines(entry))


def _lines(entry: Entry | Kind) -> Iterator[str]:
    yield f"### {entry.id}"
    yield ""
    yield _wrapped(f"{entry.title[0].upper()}{entry.title[1:]}. {entry.cause}")
    yield ""
    for sentence in entry.cure:
        yield _wrapped(sentence, "* ")
    yield ""
    if isinstance(entry, Entry):
        yield "Recognised by:"
        yield ""
        yield from (f"    {pattern.text}" for pattern in entry.patterns)
    else:
        yield f"Names: `{entry.name.pattern}`"
    if entry.links:
        yield ""
        yield " · ".join(f"<{link}>" for link in entry.links)


def _wrapped(text: str, bullet: str = "") -> str:
    return textwrap.fill(
        text,
        110,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def main() -> None:
    """Write the page's part."""
    PAGE.write_text(f"{PAGE.read_text().partition(MARK)[0]}{MARK}\n\n{section()}")


if __name__ == "__main__":
    main()
