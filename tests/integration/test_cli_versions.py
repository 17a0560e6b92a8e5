"""`vxctl` and a server that answers as no controller of this version does: one clear error."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controller.api import IDENTITY_HEADER
from tests.controller_process import assert_clear_error, vxctl

NODE = {"id": "n1", "hostname": "one"}


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A server that says it is a controller of another version, and answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header(IDENTITY_HEADER, "9.9.9")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(60)


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        (("status",), {}),
        (("status",), {"cluster": None, "nodes": []}),
        (("get", "nodes"), {"items": [NODE], "next": None}),
        (("get", "nodes"), {"rows": []}),
        (("get", "nodes"), []),
        (("get", "nodes"), None),
        (("get", "runs"), {"items": "many", "next": None}),
        (("describe", "node", "one"), NODE),
    ],
)
def test_an_answer_without_what_is_needed_is_one_clear_error(
    verb: tuple[str, ...], answer: object
) -> None:
    with answering(json.dumps(answer).encode()) as url:
        assert_clear_error(vxctl(*verb, url=url), "version 9.9.9")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff\xfe"])
def test_what_is_no_json_is_one_clear_error(body: bytes) -> None:
    with answering(body) as url:
        assert_clear_error(vxctl("get", "nodes", url=url), "it is not JSON")


def test_what_is_not_known_is_left_out() -> None:
    page: dict[str, object] = {"items": [], "next": None, "later": {"much": [1, 2]}}
    with answering(json.dumps(page).encode()) as url:
        done = vxctl("get", "nodes", url=url)
        assert (done.returncode, done.stderr) == (0, "")
