"""The TOML file of `vxctl` with contexts: named controllers, each with URL, token and CA."""

import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.files import replacing
from contract.runtime.text import printable
from controller.access.tokens import Secret

_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", re.ASCII)
_BARE: Final = re.compile(r"[0-9A-Za-z_-]+", re.ASCII)
_MAX_BYTES: Final = 1 << 20
_READABLE_BY_OTHERS: Final = 0o044
_SECRETS: Final = Path("/run/secrets")
"""Where Docker mounts secrets, readable by all in the container."""


@dataclass(frozen=True, slots=True)
class ControllerContext:
    """A controller by name.

    Attributes:
        url: of its API.
        token: the token itself; at most one of this and `token_file` is set.
        ca: file with the certificates that may sign the controller's, PEM.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contents of the file; `current` names one of the contexts, or is None."""

    current: str | None
    by_name: dict[str, ControllerContext]

    def get(self, name: str) -> ControllerContext:
        """Return a context.

        Raises:
            UsageError: there is none of this name.
        """
        found = self.by_name.get(name)
        if found is None:
            raise UsageError(
                f"there is no context {name!r} in {path()}", "`vxctl config list` lists them"
            )
        return found


def path() -> Path:
    """Return the file: `$XDG_CONFIG_HOME/vxctl/config.toml`, by default below `~/.config`."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one is ignored, says the XDG Base Directory Specification.
    base = Path(given) if given.startswith("/") else Path("~/.config")
    with suppress(RuntimeError):  # There is no home.
        base = base.expanduser()
    return base / "vxctl" / "config.toml"


def checked_name(name: str) -> str:
    """Return a name that a context may have; raise `UsageError` if it may not."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot name a context: write 1 to 64 letters, digits and . _ -",
            "choose another name",
        )
    return name


def read() -> Contexts:
    """Read the file; without one there are no contexts.

    Raises:
        OperatorError: it cannot be read, is no TOML, or says something else than contexts.
    """
    file = path()
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
            mode = os.fstat(opened.fileno()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Contexts(None, {})
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror or error}",
            "run this as its owner, or set XDG_CONFIG_HOME to another folder",
        ) from error
    found = _parsed(file, content)
    if mode & _READABLE_BY_OTHERS and any(context.token for context in found.by_name.values()):
        _warn_readable(file)
    return found


def warn_if_readable(file: Path) -> None:
    """Warn on standard error of a file with a token that everybody may read."""
    try:
        readable = file.stat().st_mode & 0o004
    except OSError:
        return
    if readable and not file.is_relative_to(_SECRETS):
        _warn_readable(file)


def write(contexts: Contexts) -> None:
    """Replace the file, with the mode 0600. Comments in it are lost.

    Raises:
        OperatorError: it cannot be written; the old one is as it was.
    """
    lines = [] if contexts.current is None else [f"current = {_text(contexts.current)}"]
    for name, context in sorted(contexts.by_name.items()):
        lines += ["", f"[contexts.{name if _BARE.fullmatch(name) else _text(name)}]"]
        for attribute in fields(context):
            value = getattr(context, attribute.name)
            if value is not None:
                lines.append(f"{attribute.name} = {_text(value)}")
    file = path()
    try:
        content = "\n".join([*lines, ""]).lstrip("\n").encode()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A link, as people have whose settings are in a repository, stays one.
        with replacing(file.resolve()) as opened:
            opened.write(content)
    except UnicodeEncodeError as error:
        raise UsageError(f"a name is not UTF-8: {error.object!r}", "use another name") from error
    except OSError as error:
        raise OperatorError(
            f"{file} cannot be written: {error.strerror or error}",
            "set XDG_CONFIG_HOME to a folder that you may write",
        ) from error


def _parsed(file: Path, content: bytes) -> Contexts:
    import tomllib

    def wrong(what: str) -> UsageError:
        return UsageError(
            f"{file}: {what}", f"correct {file}, or move it away and `vxctl login` again"
        )

    if len(content) > _MAX_BYTES:
        raise wrong("it is larger than 1 MiB")
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise wrong(f"it is not TOML: {error}") from error
    _only(document, {"current", "contexts"}, "", wrong)
    tables = document.get("contexts", {})
    if not isinstance(tables, dict):
        raise wrong("contexts must be a table, as in [contexts.prod]")
    known = {attribute.name for attribute in fields(ControllerContext)}
    by_name = {}
    for name, rows in tables.items():
        where = f"contexts.{name}"
        if not isinstance(rows, dict):
            raise wrong(f"{where} must be a table, as in [{where}]")
        _only(rows, known, f"{where}.", wrong)
        for key, value in rows.items():
            if not isinstance(value, str) or not value:
                raise wrong(f"{where}.{key} must be a text in quotes")
        if "url" not in rows:
            raise wrong(f"{where} has no url")
        if "token" in rows and "token_file" in rows:
            raise wrong(f"{where} has a token and a token_file: one of them is enough")
        if "token" in rows and Secret.parse(rows["token"]) is None:
            raise wrong(f"{where}.token is not a token (vxo_, 8 characters, _, 43 characters)")
        by_name[name] = ControllerContext(**rows)
    current = document.get("current")
    if current is not None and (not isinstance(current, str) or current not in by_name):
        raise wrong(f"current is {current!r}, which is none of the contexts")
    return Contexts(current, by_name)


def _only(rows: dict[str, Any], known: set[str], where: str, wrong: Any) -> None:
    for key in rows:
        if key not in known:
            raise wrong(f"{where}{key} is unknown; known: {', '.join(sorted(known))}")


def _text(value: str) -> str:
    """Return a TOML string: JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _warn_readable(file: Path) -> None:
    sys.stderr.write(printable(f"warning: other users may read {file}: chmod 600 {file}") + "\n")
