"""The commands of the documents, to be run as they stand there."""

from pathlib import Path
from typing import Final

_DOCUMENTS: Final = Path(__file__).parents[1] / "docs"


def commands(document: str, after: str) -> list[str]:
    """Return the commands of the first console block after some words, each with its further lines."""
    _, found, rest = (_DOCUMENTS / document).read_text().partition(after)
    assert found, f"{document} has no {after!r}"
    block = rest.partition("```console\n")[2].partition("```")[0]
    first, *others = block.removeprefix("# ").split("\n# ")
    return [first, *others]
