"""The commands of docs/install-stack.md, to be run as they stand there."""

from tests.installed.installed import ROOT

_DOCUMENT = ROOT / "docs" / "install-stack.md"


def commands(after: str) -> list[str]:
    """Return the commands of the first console block after some words, each with its further lines."""
    _, found, rest = _DOCUMENT.read_text().partition(after)
    assert found, f"{_DOCUMENT.name} has no {after!r}"
    block = rest.partition("```console\n")[2].partition("```")[0]
    first, *others = block.removeprefix("# ").split("\n# ")
    return [first, *others]
