"""The dashboard's own files and its libraries, under paths that change with their content."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
PREFIX: Final = "/static/"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_HASH_CHARACTERS: Final = 12
_HTMX: Final = ("htmx.min.js", "hx-sse.min.js")


class Asset(NamedTuple):
    """A file: its path on the server, its type, and its content, also compressed."""

    path: str
    kind: str
    content: bytes
    compressed: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """Return all files by their name below `static`, such as `dashboard.css`, and `htmx.js`."""
    found = {
        str(file.relative_to(FOLDER)): file.read_bytes()
        for file in sorted(FOLDER.rglob("*"))
        if file.suffix in (".css", ".js", ".svg")
    }
    # As one script: htmx looks at the page once it has run, and must have its extension by then.
    found["htmx.js"] = b"\n".join(found.pop(f"vendor/{name}") for name in _HTMX)
    return {name: _asset(Path(name), content) for name, content in found.items()}


def path_of(name: str) -> str:
    """Return the path of a file, for a template.

    Raises:
        KeyError: there is no such file: a mistake in the template.
    """
    return assets()[name].path


@cache
def _by_path() -> Mapping[str, Asset]:
    return {asset.path: asset for asset in assets().values()}


def answer(request: Request) -> Response | None:
    """Return the file at the path of a request; None: there is none."""
    found = _by_path().get(request.url.path)
    if found is None:
        return None
    headers = {"Cache-Control": _IMMUTABLE, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.kind, headers=headers)
    return Response(found.content, media_type=found.kind, headers=headers)


def _asset(file: Path, content: bytes) -> Asset:
    digest = hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    name = f"{file.stem}.{digest}{file.suffix}"
    return Asset(f"{PREFIX}{name}", kind, content, gzip.compress(content, 9, mtime=0))
