"""docs/cli.md and the man pages, made from the code: `make docs` writes them."""

import argparse
import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from typer.main import get_command

from contract.runtime import exit_status
from contract.runtime.exit_status import ExitStatus
from controller.cli.commands import TREE, app
from controller.cli.verbs import Group, Verb, make
from worker import cli as worker_cli
from worker import doctor, key_command, scan

DOCS: Final = Path(__file__).parents[1] / "docs"
_COMMON_FROM: Final = 5
"""An option that so many verbs have, in the same words, is told once for all."""
_COMMON_TITLE: Final = "Options of many commands"

Record = tuple[str, str]
"""An option or argument as its help names it, and its meaning."""


class Page(NamedTuple):
    """A command as its page tells it.

    Attributes:
        text: paragraphs.
        records: its arguments and options.
        aliases: other names.
    """

    usage: str
    text: list[str]
    records: list[Record]
    aliases: tuple[str, ...] = ()


def pages() -> dict[Path, str]:
    """The content of each file that is made."""
    vxctl, worker = [*_vxctl()], [*_worker()]
    common = _common(vxctl)
    return {
        DOCS / "cli.md": _markdown(vxctl, worker, common),
        DOCS / "man" / "vxctl.1": _man("vxctl", TREE.summary, vxctl, common),
        DOCS / "man" / "vxlan-worker.1": _man(
            "vxlan-worker",
            "Find and remove orphaned VXLAN devices of a Docker Swarm node.",
            worker,
            [],
        ),
    }


def main() -> None:
    """Write the files."""
    for path, content in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


def _vxctl() -> Iterator[Page]:
    yield _page("vxctl", get_command(app), ())
    yield from _verbs("vxctl", TREE.verbs)


def _verbs(path: str, verbs: Mapping[str, Verb | Group]) -> Iterator[Page]:
    for name, verb in verbs.items():
        yield _page(f"{path} {name}", make(name, verb), verb.aliases)
        if isinstance(verb, Group):
            yield from _verbs(f"{path} {name}", verb.verbs)


def _page(path: str, command: Any, aliases: tuple[str, ...]) -> Page:
    context = command.context_class(command, info_name=path, help_option_names=["-h", "--help"])
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    found = (parameter.get_help_record(context) for parameter in command.get_params(context))
    records = [(name, " ".join(meaning.split())) for name, meaning in filter(None, found)]
    return Page(usage, _paragraphs(command.help or ""), records, aliases)


def _paragraphs(text: str) -> list[str]:
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text.replace("\b", "")))
    return [" ".join(part.split()) for part in parts if part.strip()]


def _worker() -> Iterator[Page]:
    yield Page(
        "vxlan-worker run|scan|doctor|key [OPTIONS]",
        ["`vxlan-worker --version` shows the version."],
        [],
    )
    for parser in (
        worker_cli.run_parser(),
        scan.parser(),
        doctor.parser(),
        key_command.parser(),
    ):
        texts = [each for each in (parser.description, parser.epilog) if each]
        yield Page(f"{parser.prog} [OPTIONS]", texts, [*_options(parser)])


def _options(parser: argparse.ArgumentParser) -> Iterator[Record]:
    for action in parser._actions:
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        meaning = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"{names}{value if action.option_strings else ''}", meaning


def _common(found: list[Page]) -> list[Record]:
    counts = Counter(
        record for page in found for record in page.records if record[0].startswith("-")
    )
    return [record for record, count in counts.items() if count >= _COMMON_FROM]


def statuses() -> Iterator[tuple[int, str]]:
    """Each exit status, and the first sentence of its docstring in the code."""
    (table,) = (
        node
        for node in ast.parse(inspect.getsource(exit_status)).body
        if isinstance(node, ast.ClassDef)
    )
    for name, doc in zip(table.body, table.body[1:], strict=False):
        if isinstance(name, ast.Assign) and isinstance(doc, ast.Expr):
            (target,) = name.targets
            assert isinstance(target, ast.Name)
            text = ast.literal_eval(doc.value).partition("\n")[0].rstrip(".")
            yield ExitStatus[target.id].value, text


def _markdown(vxctl: list[Page], worker: list[Page], common: list[Record]) -> str:
    lines = [
        "# The command line",
        "",
        "<!-- Made from the code by tests/cli_pages.py: `make docs`. Do not edit. -->",
        "",
        "## Exit statuses",
        "",
        "Of every command of `vxctl` and `vxlan-worker` (`contract/runtime/exit_status.py`):",
        "",
        "| status | meaning |",
        "| --- | --- |",
        *(f"| {status} | {text} |" for status, text in statuses()),
        "",
        f"## {_COMMON_TITLE}",
        "",
        *map(_item, dict(common).items()),
    ]
    for page in [*vxctl, *worker]:
        lines += ["", f"## {_title(page)}", "", f"    {page.usage}"]
        for paragraph in page.text:
            lines += ["", paragraph]
        if page.aliases:
            lines += ["", "Also: " + ", ".join(f"`{alias}`" for alias in page.aliases) + "."]
        own = [record for record in page.records if record not in common]
        lines += ["", *map(_item, own)] if own else []
        lines += _shared(page, common)
    return "\n".join(lines) + "\n"


def _shared(page: Page, common: list[Record]) -> list[str]:
    shared = ", ".join(f"`{_flag(record)}`" for record in page.records if record in common)
    return ["", f"And: {shared}."] if shared else []


def _flag(record: Record) -> str:
    return record[0].split(" <")[0].split(",")[0].split()[0]


def _title(page: Page) -> str:
    return re.split(r" \[| [A-Z<]| run\|", page.usage)[0]


def _item(record: Record) -> str:
    return f"* `{record[0]}`: {record[1]}".rstrip(": ")


def _man(name: str, summary: str, found: list[Page], common: list[Record]) -> str:
    lines = [
        '.\\" Made from the code by tests/cli_pages.py: make docs. Do not edit.',
        f'.TH {name.upper()} 1 "" "vxlan-operator"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        _roff(found[0].usage),
        ".SH COMMANDS",
    ]
    for page in found:
        lines += [f'.SS "{_roff(_title(page))}"', f".B {_roff(page.usage)}"]
        for paragraph in page.text:
            lines += [".PP", _roff(paragraph)]
        if page.aliases:
            lines += [".PP", _roff("Also: " + ", ".join(page.aliases) + ".")]
        for record in page.records:
            if record not in common:
                lines += _tagged(*record)
        shared = ", ".join(_flag(record) for record in page.records if record in common)
        lines += [".PP", _roff(f"And: {shared}.")] if shared else []
    if common:
        lines.append(f".SH {_COMMON_TITLE.upper()}")
        for record in dict(common).items():
            lines += _tagged(*record)
    lines.append(".SH EXIT STATUS")
    for status, text in statuses():
        lines += _tagged(str(status), text)
    return "\n".join(lines) + "\n"


def _tagged(name: str, text: str) -> list[str]:
    return [".TP", f".B {_roff(name)}", _roff(text) or "\\&"]


def _roff(text: str) -> str:
    """Escape a text for roff, and leave out the marks of code."""
    escaped = text.replace("`", "").replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"^([.\'])", r"\\&\1", escaped)
    return escaped.replace('"', "\\(dq")


if __name__ == "__main__":
    main()
