"""What explaining a log of 1,000 lines costs: the reading alone, over HTTP, by `vxctl`; 5,000 nodes."""

import os
import subprocess
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvicorn

from contract import VERSION
from contract.verdicts import Mode
from controller.api import IDENTITY_HEADER
from controller.api.app import build
from controller.api.context import Context
from controller.db.engine import Database, open_database
from controller.explain.reading import read
from tests.benchmarks.measure import median_seconds
from tests.controller_process import VXCTL, free_port
from tests.fake_swarm import snapshot
from tests.stored import put
from tests.tokens import ENVIRONMENT, HEADERS, give_token

LINES, NODES = 1_000, 5_000
_FAULT = (
    'network sandbox join failed: subnet sandbox join failed for \\"10.0.1.0/24\\": '
    "error creating vxlan interface: file exists"
)


def log() -> str:
    """A journal of 1,000 lines of ten nodes, nine of ten lines about the fault."""
    return "\n".join(
        f"Nov 26 10:{second // 60:02}:{second % 60:02} node{second % 10:04} dockerd[812]: "
        f'time="2026-11-26T10:{second // 60:02}:{second % 60:02}.123456789Z" level=error '
        'msg="fatal task error" '
        + (f'error="{_FAULT}" ' if second % 10 else 'error="no such image" ')
        + f"module=node/agent/taskmanager node.id=n{second % 10:024} task.id=t{second:024}"
        for second in range(LINES)
    )


def main() -> None:
    """Measure, and print."""
    text = log()
    now = datetime.now(UTC)
    print(f"{LINES} lines, {len(text) / 1000:.0f} kB; {NODES} nodes")
    print(f"reading: {median_seconds(lambda: read(text, now), 5) * 1000:.0f} ms")
    hostile = ("error creating vxlan interface: file exists " + "a." * 2_000 + "\n") * 250
    print(f"reading a hostile MB: {median_seconds(lambda: read(hostile[: 2**20], now), 3):.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'controller.db'}")
        try:
            put(database, snapshot(*[f"node{number:04}" for number in range(NODES)]))
            give_token(database)
            _over_http(database, text)
        finally:
            database.close()


def _over_http(database: Database, text: str) -> None:
    port = free_port()
    app = build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None))
    headers = [(IDENTITY_HEADER, VERSION)]
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, headers=headers, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    try:
        body = {"text": text}

        def post() -> None:
            httpx.post(
                f"{url}/api/v1/explain", json=body, headers=HEADERS, timeout=30
            ).raise_for_status()

        def vxctl() -> None:
            environment = os.environ | ENVIRONMENT | {"VXLAN_OPERATOR_URL": url}
            command = [VXCTL, "explain"]
            subprocess.run(
                command, input=text.encode(), env=environment, check=True, capture_output=True
            )

        print(f"POST /api/v1/explain: {median_seconds(post, 5) * 1000:.0f} ms")
        print(f"vxctl explain, start of Python included: {median_seconds(vxctl, 5):.2f} s")
    finally:
        server.should_exit = True
        thread.join(30)


if __name__ == "__main__":
    main()
