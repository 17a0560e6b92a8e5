"""Redis on TCP ports of the loopback address: with TLS, as a replica, and the Sentinels that watch it."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis

from tests.certificates import Pair
from tests.controller_process import free_port
from tests.servers import RedisServer, Server, await_true

MASTER = "vxlan-operator"


class Authority:
    """A CA of its own; what it signs is for one address."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.certificate = folder / f"{name}-ca.crt"
        self._key = folder / f"{name}-ca.key"
        _openssl(
            "req", "-x509", "-noenc", "-newkey", "rsa:2048", "-days", "90", "-subj", f"/CN={name}",
            "-out", str(self.certificate), "-keyout", str(self._key),
        )  # fmt: skip

    def sign(self, name: str, *, address: str = "127.0.0.1", days: int = 90) -> Pair:
        """Make a certificate and its key; negative days: it has expired."""
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{address}\n")
        _openssl(
            "req", "-new", "-noenc", "-newkey", "rsa:2048", "-subj", f"/CN={name}",
            "-out", str(request), "-keyout", str(pair.key),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate),
            "-CAkey", str(self._key), "-CAcreateserial", "-extfile", str(extensions),
            "-days", str(days), "-out", str(pair.certificate),
        )  # fmt: skip
        return pair


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


class NetworkRedis(RedisServer):
    """A Redis with a socket as the others, and a TCP port besides; `options`: more of its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self.port = free_port()
        self._options = options

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return (*super().command(), "--port", str(self.port), *self._options)


class TlsRedis(NetworkRedis):
    """A Redis with TLS, which asks for a certificate of the authority."""

    def __init__(self, folder: Path, authority: Authority, pair: Pair) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        self._options = (
            "--tls-port", str(self.tls_port), "--tls-cert-file", str(pair.certificate),
            "--tls-key-file", str(pair.key), "--tls-ca-cert-file", str(authority.certificate),
        )  # fmt: skip

    @property
    def tls_url(self) -> str:
        """The URL of its port with TLS."""
        return f"rediss://127.0.0.1:{self.tls_port}/0"


class Sentinel(Server):
    """One of three that watch a master."""

    def __init__(self, folder: Path, master: NetworkRedis) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self.port = free_port()
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 2000\n"
            f"sentinel failover-timeout {MASTER} 10000\n"
            "requirepass of-the-sentinels\nsentinel sentinel-pass of-the-sentinels\n"
        )

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return ("redis-server", str(self._file), "--sentinel")

    def ready(self) -> bool:
        """See `Server.ready`."""
        try:
            return self.knows_all()
        except redis.RedisError:
            return False

    def knows_all(self, others: int = 0) -> bool:
        """Whether it knows the replica and so many other Sentinels."""
        with redis.Redis(port=self.port, password="of-the-sentinels") as client:
            state = client.sentinel_master(MASTER)
        return bool(state["num-slaves"] >= 1 and state["num-other-sentinels"] >= others)


class Watched:
    """A master, its replica, and three Sentinels with a password."""

    def __init__(self, folder: Path) -> None:
        self.master = NetworkRedis(folder / "master")
        self.replica = NetworkRedis(
            folder / "replica", "--replicaof", f"127.0.0.1 {self.master.port}"
        )
        self.sentinels = [Sentinel(folder / f"sentinel{n}", self.master) for n in range(3)]
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """The broker's URL."""
        return ";".join(f"sentinel://127.0.0.1:{each.port}/0" for each in self.sentinels)

    def __enter__(self) -> Self:
        with ExitStack() as running:
            for server in (self.master, self.replica, *self.sentinels):
                running.enter_context(server)
            for sentinel in self.sentinels:
                await_true(lambda each=sentinel: each.knows_all(2), "they know each other")  # type: ignore[misc]
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
