"""Real servers for tests: each on a private Unix socket, dead at the latest with the process that owns it."""

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Self

import psycopg
import redis

from tests import forked, logs

# Only so that nothing hangs for ever: the machine may be busy with many tests at once.
_START_SECONDS = 90.0
_STOP_SECONDS = 60.0
_LONGEST_REST = 0.5


class ServerMissingError(Exception):
    """The server is not installed."""


def of_root(root: Path, program: str) -> tuple[str, ...] | None:
    """The command of a program in another root folder, with its libraries; None: it is not there."""
    loader = next(root.glob("usr/lib*/ld-linux*.so.*"), None)
    if loader is None or not (root / program).exists():
        return None
    folders = ":".join(str(each) for each in root.glob("usr/lib/*-linux-gnu"))
    return (str(loader), "--library-path", folders, str(root / program))


REDIS: list[str] = ["redis-server"]
"""The command of every Redis; `--valkey` replaces it."""


class Server:
    """A child process that the kernel kills when its parent dies, however that dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | forked.Program | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self) -> Sequence[str]:
        """What to run."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        await_true(self.ready, f"{self.command()[0]} answers ({self.folder / 'server.log'})")

    def launch(self) -> None:
        """Start it, and do not wait."""
        with self.open_log() as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command()],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def open_log(self) -> BinaryIO:
        """Its log, to be written on; a test that fails shows its end."""
        path = self.folder / "server.log"
        logs.STARTED[path] = None
        return path.open("ab")

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it (SIGKILL: as in a crash) and wait for its end."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
        self._process = None


class RedisServer(Server):
    """redis-server without persistence."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if shutil.which(REDIS[0]) is None:
            raise ServerMissingError("redis-server is missing: apt-get install redis-server")
        self._socket = folder / "redis.sock"
        self.url = f"redis+socket://{self._socket}"

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return (
            *REDIS, "--port", "0", "--unixsocket", str(self._socket),
            "--save", "", "--appendonly", "no", "--dir", str(self.folder),
        )  # fmt: skip

    def ready(self) -> bool:
        """See `Server.ready`."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(unix_socket_path=str(self._socket))

    def flush(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()


class PostgresServer(Server):
    """PostgreSQL with a database for each test; it refuses to run as root, so it runs as `postgres`."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            raise ServerMissingError("PostgreSQL is missing: apt-get install postgresql")
        folder = _folder_of_its_own()
        super().__init__(folder)
        self._binaries = found[-1].parent
        self._as_user: tuple[str, ...] = ()
        if os.geteuid() == 0:
            os.chown(folder, _postgres_uid(), -1)
            self._as_user = (
                "setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--",
            )  # fmt: skip
        self._data = folder / "data"
        self._run(*self._creation())

    def _creation(self) -> Sequence[str]:
        """The command that makes the data folder."""
        return (
            str(self._binaries / "initdb"), "--pgdata", str(self._data),
            "--auth", "trust", "--username", "test", "--no-sync",
        )  # fmt: skip

    def _run(self, *command: str) -> None:
        subprocess.run(
            [*self._as_user, *command],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            timeout=120,
        )

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return (
            *self._as_user, "setpriv", "--pdeathsig", "KILL", "--",
            str(self._binaries / "postgres"), "-D", str(self._data), "-k", str(self.folder),
            "-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off",
            # It works for nobody but the tests: not for tables that go with them, nor on compiling queries.
            "-c", "autovacuum=off", "-c", "jit=off",
            # In its folder, which goes with it, and not in /dev/shm.
            "-c", "dynamic_shared_memory_type=mmap",
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql+psycopg://test@/{database}?host={self.folder}"

    def demote(self) -> None:
        """Restart it as a hot standby, which answers and refuses all writes."""
        self.stop(signal.SIGINT)
        (self._data / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        """Make a standby the primary again."""
        with self._connect() as connection:
            connection.execute("SELECT pg_promote()")

    def new_database(self, encoding: str = "UTF8") -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        options = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" {options}'.encode())
        return self.url(name)

    def ready(self) -> bool:
        """See `Server.ready`."""
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder),
            user="test",
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )


class PostgresStandby(PostgresServer):
    """A hot standby that follows a running server."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__()

    def _creation(self) -> Sequence[str]:
        return (
            str(self._binaries / "pg_basebackup"), "--pgdata", str(self._data), "--no-sync",
            "--checkpoint", "fast", "--write-recovery-conf",
            "--dbname", f"host={self._primary.folder} user=test",
        )  # fmt: skip

    def holds(self, database: str, query: str) -> bool:
        """Whether it has come so far that a query in a database of the primary finds a row."""
        try:
            with psycopg.connect(
                host=str(self.folder), user="test", dbname=database, connect_timeout=5
            ) as connection:
                return connection.execute(query.encode()).fetchone() is not None
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return False


class PgBouncer(Server):
    """PgBouncer with transaction pooling, in front of a server; `settings`: more lines of its file."""

    def __init__(self, folder: Path, server: PostgresServer, settings: str = "") -> None:
        super().__init__(folder)
        if shutil.which("pgbouncer") is None:
            raise ServerMissingError("PgBouncer is missing: apt-get install pgbouncer")
        self._file = folder / "pgbouncer.ini"
        self._file.write_text(
            f"[databases]\n* = host={server.folder} user=test\n[pgbouncer]\nlisten_addr =\n"
            f"unix_socket_dir = {folder}\nauth_type = any\npool_mode = transaction\n{settings}\n"
        )

    def command(self) -> Sequence[str]:
        """See `Server.command`; it refuses to run as root."""
        user = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--")
        as_user = user if os.geteuid() == 0 else ()
        return (
            *as_user, "setpriv", "--pdeathsig", "KILL", "--", "pgbouncer", str(self._file),
        )  # fmt: skip

    def ready(self) -> bool:
        """See `Server.ready`; its socket is there before it listens."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.folder / ".s.PGSQL.6432")) == 0

    def url(self, database: str) -> str:
        """The URL of one of the server's databases, through this."""
        return f"postgresql+psycopg://test:s3cr3t@/{database}?host={self.folder}&port=6432"


_SERVERS: Final = itertools.count()


def _folder_of_its_own() -> Path:
    """A folder that another user can reach, with a path short enough for a socket.

    What a killed process left behind goes first: its pid is in the name, with a number, as a process may
    have several servers.
    """
    prefix = "vxlan-operator-pg-"
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{prefix}*"):
        if Path("/proc", left.name.removeprefix(prefix).partition("-")[0]).exists():
            continue
        with suppress(FileNotFoundError):  # Another process may do the same at the same time.
            if left.stat().st_uid in (os.geteuid(), _postgres_uid()):
                shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"{prefix}{os.getpid()}-{next(_SERVERS)}"
    folder.mkdir()
    return folder


def _postgres_uid() -> int:
    return pwd.getpwnam("postgres").pw_uid


def await_true(
    condition: Callable[[], object],
    what: str,
    timeout: float = _START_SECONDS,
    *,
    pause: float = 0.02,
) -> None:
    """Wait until a condition holds; look every `pause` seconds, or less often if a look takes long.

    Raises:
        AssertionError: it did not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        if condition():
            return
        ended = time.monotonic()
        if ended > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(_rest(ended - began, pause))


def _rest(took: float, pause: float) -> float:
    """Seconds until the next look, after one that took so many: looking leaves the cores to what works."""
    return max(pause, min(4 * took, _LONGEST_REST))
