"""Redis on TCP ports of the loopback address: with TLS, as a replica, and the Sentinels that watch it."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis

from tests.certificates import Pair
from tests.controller_process import free_port
from tests.servers import REDIS, RedisServer, Server, await_true

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
    """One of three that watch a master; `tls`: more lines of its file, and how clients connect."""

    def __init__(
        self, folder: Path, master_port: int, tls: "Tls | None" = None, lines: str = ""
    ) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self.port = free_port()
        self._file = folder / "sentinel.conf"
        self._tls = tls
        port = (
            f"port {self.port}\n" if tls is None else f"port 0\ntls-port {self.port}\n{tls.lines}"
        )
        self._file.write_text(
            f"{port}bind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 2000\n"
            f"sentinel failover-timeout {MASTER} 10000\n"
            "requirepass of-the-sentinels\nsentinel sentinel-pass of-the-sentinels\n"
            f"{lines}"
        )

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return (*REDIS, str(self._file), "--sentinel")

    def ready(self) -> bool:
        """See `Server.ready`."""
        try:
            return self.knows_all()
        except redis.RedisError:
            return False

    def knows_all(self, others: int = 0) -> bool:
        """Whether it knows the replica and so many other Sentinels."""
        tls = {} if self._tls is None else self._tls.client
        with redis.Redis("127.0.0.1", self.port, password="of-the-sentinels", **tls) as client:
            state = client.sentinel_master(MASTER)
        return bool(state["num-slaves"] >= 1 and state["num-other-sentinels"] >= others)


class Tls:
    """TLS among servers that are all masters, replicas or Sentinels: only certificates of the authority."""

    def __init__(self, authority: Authority, pair: Pair) -> None:
        self._files = {
            "tls-cert-file": pair.certificate,
            "tls-key-file": pair.key,
            "tls-ca-cert-file": authority.certificate,
        }
        settings = {"tls-replication": "yes", **self._files}
        self.lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        self.options = [
            part for name, value in settings.items() for part in (f"--{name}", str(value))
        ]
        self.client: dict[str, Any] = {
            "ssl": True,
            "ssl_ca_certs": str(authority.certificate),
            "ssl_certfile": str(pair.certificate),
            "ssl_keyfile": str(pair.key),
        }


class ReplicatedRedis(NetworkRedis):
    """A Redis that has, with `tls`, no other port than one with TLS."""

    def __init__(self, folder: Path, tls: Tls | None, *options: str) -> None:
        super().__init__(folder, *options)
        self._tls = tls

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        given = list(super().command())
        if self._tls is None:
            return given
        given[given.index(str(self.port)) - 1] = "--tls-port"
        return [*given, *self._tls.options]


class Watched:
    """A master, its replica, and three Sentinels with a password; with `tls`, none speaks without."""

    def __init__(self, folder: Path, tls: Tls | None = None) -> None:
        self.master = ReplicatedRedis(folder / "master", tls)
        self.replica = ReplicatedRedis(
            folder / "replica", tls, "--replicaof", f"127.0.0.1 {self.master.port}"
        )
        self.sentinels = [
            Sentinel(folder / f"sentinel{n}", self.master.port, tls) for n in range(3)
        ]
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """The broker's URL."""
        return ";".join(f"sentinel://127.0.0.1:{each.port}/0" for each in self.sentinels)

    @property
    def ports(self) -> list[int]:
        """Of all servers, on the loopback address."""
        return [self.master.port, self.replica.port, *(each.port for each in self.sentinels)]

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
