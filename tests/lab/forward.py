"""Shows a port of a lab's loopback on this machine's own loopback: `python -m tests.lab forward`.

Run inside the lab's network namespace, with a listening socket that was made outside: a socket belongs to the
namespace in which it was made.
"""

import asyncio
import contextlib
import socket
import sys

_CHUNK = 65536


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def forward(listening: socket.socket, port: int) -> None:
    """Connect all who connect to `listening` with `port` of this namespace's loopback, until cancelled."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    async with await asyncio.start_server(connect, sock=listening) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(forward(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
