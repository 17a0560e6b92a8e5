"""What 500 clients cost that follow a list while nothing happens, and how soon they hear of a change."""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import update

from contract.verdicts import Mode
from controller.api.app import build
from controller.api.context import Context
from controller.db.engine import Database, open_database
from controller.db.models import Node
from controller.process.http import HttpServer, raise_descriptor_limit
from tests.controller_process import free_port
from tests.fake_swarm import snapshot
from tests.servers import PostgresServer
from tests.stored import put
from tests.tokens import HEADERS, give_token

CLIENTS, NODES, SECONDS, CHANGES = 500, 100, 12.0, 10


def main() -> None:
    """Measure, and print."""
    if len(sys.argv) > 1:
        _serve(sys.argv[1], int(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        for kind, url in (
            ("SQLite", f"sqlite:///{Path(folder) / 'controller.db'}"),
            ("PostgreSQL", server.new_database()),
        ):
            pids = [server.pid] if kind == "PostgreSQL" else []
            for clients in (1, CLIENTS):
                asyncio.run(_measure(f"{kind}, {clients} clients", url, clients, pids))


def _serve(url: str, port: int) -> None:
    """The API alone, in its own process: what it costs is what this process uses."""
    raise_descriptor_limit()
    app = build(Context(open_database(url), mode=Mode.ENFORCE, notify=lambda *_: None))
    HttpServer(app, app.state.end_streams, host="127.0.0.1", port=port).run()


async def _measure(kind: str, url: str, count: int, servers: Sequence[int]) -> None:
    database = open_database(url)
    put(database, snapshot(*(f"node{number}" for number in range(NODES))))
    give_token(database)
    port = free_port()
    child = _start(url, port)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    try:
        clients = []
        for _ in range(count):
            clients.append(await _connect(port))
            if (
                len(clients) % 50 == 0 or len(clients) == count
            ):  # At most 200 requests wait for their turn.
                await asyncio.gather(
                    *(
                        reader.readuntil(b"event: synced")
                        for reader, _ in clients[-(len(clients) % 50 or 50) :]
                    )
                )
        await asyncio.sleep(3)
        begin, used, others = time.monotonic(), _used(child.pid), _used_by_all(servers)
        await asyncio.sleep(SECONDS)
        share = (_used(child.pid) - used) / (time.monotonic() - begin)
        other = (_used_by_all(servers) - others) / (time.monotonic() - begin)
        print(
            f"{kind}: nothing happens: {share:.1%} of a core, and {other:.1%} of the database server; "
            f"load {os.getloadavg()[0]:.1f}"
        )
        first, last = [], []
        for number in range(CHANGES):
            await asyncio.sleep(0.3)
            stored = threading.Thread(target=_change, args=(database, number))
            heard = [
                asyncio.create_task(_heard(reader, f"change {number}".encode()))
                for reader, _ in clients
            ]
            stored.start()
            await asyncio.to_thread(stored.join)
            begin = time.monotonic()
            times = sorted(await asyncio.gather(*heard))
            first.append(times[0] - begin)
            last.append(times[-1] - begin)
        for what, found in (("first", first), ("last", last)):
            ordered = sorted(found)
            print(
                f"{kind}: stored to heard by the {what} client: median "
                f"{ordered[len(ordered) // 2] * 1000:.0f} ms, at most {ordered[-1] * 1000:.0f} ms; "
                f"load {os.getloadavg()[0]:.1f}"
            )
        for _, writer in clients:
            writer.close()
    finally:
        child.terminate()
        child.wait(30)
        database.close()


def _start(url: str, port: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.benchmarks.watch", url, str(port)])


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
    token = HEADERS["Authorization"]
    writer.write(
        f"GET /api/v1/nodes?watch=true HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n".encode()
    )
    return reader, writer


async def _heard(reader: asyncio.StreamReader, text: bytes) -> float:
    await reader.readuntil(text)
    return time.monotonic()


def _change(database: Database, number: int) -> None:
    with database.write() as session:
        session.execute(
            update(Node).where(Node.hostname == "node7").values(last_error=f"change {number}")
        )


def _used(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _used_by_all(parents: Sequence[int]) -> float:
    """Seconds of processor time of processes and of their children."""
    total = 0.0
    for pid in parents:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        total += sum(_used(each) for each in (pid, *map(int, below)))
    return total


if __name__ == "__main__":
    main()
