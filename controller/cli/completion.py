"""The verb `vxctl completion bash|zsh|fish`, and what the shells call for candidates.

A shell calls `vxctl WORD... CURRENT` with `_VXCTL_COMPLETE` in the environment, and gets a candidate per
line. It never evaluates a candidate, and a name of a node or network that a shell would not take as it stands
is replaced by the id. Whatever fails, there are no candidates, and no error on a line that is being typed.
"""

import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

import typer

from controller.cli.output import table

if TYPE_CHECKING:
    from controller.cli.connection import Connection

_TIMEOUT_SECONDS: Final = 1.0
"""For the controller's answer: about as long as a person waits at a TAB; a busy machine needs half of it."""
_SAFE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
_NAMES: Final = 1_000
_CONNECTION: Final = {
    "--url": "url",
    "--context": "context",
    "--token-file": "token_file",
    "--ca": "ca",
}
_ABOUT_METAVAR: Final = "[for] node|network NAME"
_ABOUT: Final = {"node": "nodes", "network": "networks"}
"""Words of `vxctl events for ...` that a name follows."""

_BASH: Final = """\
_vxctl() {
    mapfile -t COMPREPLY < <(
        _VXCTL_COMPLETE=1 vxctl "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null
    )
}
complete -o bashdefault -o default -F _vxctl vxctl
"""
_ZSH: Final = """\
#compdef vxctl
_vxctl() {
    local -a found
    found=("${(@f)$(_VXCTL_COMPLETE=1 vxctl "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -- "${found[@]}"; else _files; fi
}
compdef _vxctl vxctl
"""
_FISH: Final = """\
function __vxctl_complete
    set -l words (commandline -opc)
    env _VXCTL_COMPLETE=1 vxctl $words[2..-1] (commandline -ct | string collect -a) 2>/dev/null
end
complete -c vxctl -f -a '(__vxctl_complete)'
"""
_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish")],
) -> None:
    table.line(*_SCRIPTS[shell].splitlines())


def answer(words: Sequence[str]) -> None:
    """Print candidates for the last of the words; nothing if anything fails."""
    try:
        found = [word for word in _candidates(words) if word.startswith(words[-1])]
    except Exception:  # noqa: BLE001 -- a traceback would be in the line that a person types
        return
    sys.stdout.write("".join(f"{word}\n" for word in dict.fromkeys(found)))


class _Line(NamedTuple):
    """The words before the current one, understood.

    Attributes:
        command: the last command named.
        arguments: its arguments so far.
        option: the option whose value the current word is; None: it is not one.
    """

    command: Any
    arguments: list[str]
    option: Any


def _read(words: Sequence[str]) -> _Line:
    from controller.cli.commands import app

    command: Any = typer.main.get_command(app)
    arguments: list[str] = []
    option: Any = None
    for word in words:
        if option is not None:
            option = None
        elif word.startswith("-"):
            found = _option(command, word)
            option = found if found and _takes_value(found) and "=" not in word else None
        elif (below := _below(command, word)) is not None:
            command, arguments = below, []
        else:
            arguments.append(word)
    return _Line(command, arguments, option)


def _candidates(words: Sequence[str]) -> Iterator[str]:
    *before, current = words
    command, arguments, option = _read(before)
    if option is not None:
        yield from _values(option, before)
        return
    if current.startswith("-"):
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield from (name for name in parameter.opts if name.startswith("--"))
        return
    if hasattr(command, "list_commands"):
        yield from command.list_commands(None)
    positions = [row for row in command.params if row.param_type_name == "argument"]
    if positions:
        parameter = positions[min(len(arguments), len(positions) - 1)]
        if len(arguments) < len(positions) or parameter.nargs == -1:
            yield from _arguments(parameter, arguments, before)


def _arguments(parameter: Any, arguments: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    """Yield the values of an argument; that of `events for node NAME` begins with words of its own."""
    if parameter.metavar != _ABOUT_METAVAR:
        yield from _values(parameter, words)
    elif arguments and arguments[-1] in _ABOUT:
        yield from _names(_ABOUT[arguments[-1]], words)
    elif not arguments or arguments == ["for"]:
        yield from ("for", *_ABOUT) if not arguments else _ABOUT


def _values(parameter: Any, words: Sequence[str]) -> Iterator[str]:
    yield from _choices(parameter.type_descriptor.annotation)
    metavar = parameter.metavar or ""
    if metavar == "CONTEXT":
        from controller.cli import contexts

        yield from contexts.read().by_name
    elif "NODE" in metavar:
        yield from _names("nodes", words)
    elif "NET" in metavar and "NETNS" not in metavar:
        yield from _names("networks", words)


def _choices(annotation: Any) -> Iterator[str]:
    """Yield the values of a type that has a few."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (str(member.value) for member in annotation)


def _names(kind: str, words: Sequence[str]) -> Iterator[str]:
    """Yield names of nodes or networks, or ids where a name is not safe; none after the time-out."""
    # Outside the thread: the time-out is for the answer, not for imports.
    from contract.runtime.errors import OperatorError
    from controller.cli.client import Client
    from controller.cli.connection import using

    connection = _connection(words)
    found: list[str] = []

    def ask() -> None:
        with suppress(OperatorError, KeyError, TypeError, ValueError):
            with using(connection):
                rows = Client(connection.url).get(kind, limit=_NAMES)["items"]
            for row in rows:
                name = row["hostname" if kind == "nodes" else "name"]
                found.append(name if _SAFE.fullmatch(name) else row["id"])

    # A daemon: an answer that is late is not waited for.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT_SECONDS)
    yield from (name for name in [*found] if _SAFE.fullmatch(name))


def _option(command: Any, word: str) -> Any:
    """Return the option that a word is, or is the beginning of (`--node=one`)."""
    name = word.partition("=")[0]
    for parameter in command.params:
        if parameter.param_type_name == "option" and name in parameter.opts:
            return parameter
    return None


def _takes_value(option: Any) -> bool:
    return not getattr(option, "is_flag", False) and not getattr(option, "count", False)


def _below(command: Any, word: str) -> Any:
    """Return the command of this name below a group."""
    if not hasattr(command, "get_command"):
        return None
    return command.get_command(None, word)


def _connection(words: Sequence[str]) -> "Connection":
    """Return how to reach the controller that the line, the environment or the current context names."""
    from controller.cli.connection import resolve

    given: dict[str, str] = {}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in _CONNECTION:
            following = words[number + 1] if number + 1 < len(words) else ""
            given[_CONNECTION[name]] = value if equals else following
    return resolve(**given)
