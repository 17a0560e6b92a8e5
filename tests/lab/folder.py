"""A lab's folder under /run: its record, its sockets, its logs, and the lock that says it lives.

Whether a lab is alive is asked of the kernel, by a lock, and not of process ids, which get reused:
the lab's init and the `unshare` that waits for it hold an flock on `lock` for as long as they
exist. Whoever can take that lock knows that every process of the lab is gone.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from . import cgroups
from .errors import LabError
from .spec import Spec
from .wait import wait_until

BASE = Path("/run/vxlan-lab")


class Folder:
    """The paths of one lab; what is in `private` shows only in the lab's own mount namespace."""

    def __init__(self, name: str) -> None:
        self.path = BASE / name
        self.record = self.path / "lab.json"
        self.lock = self.path / "lock"
        self.control = self.path / "control.sock"
        self.init_log = self.path / "init.log"
        self.client_config = self.path / "client"
        self.private = self.path / "private"

    def socket(self, node: str) -> Path:
        return self.path / f"{node}.sock"

    def tls(self, node: str) -> tuple[Path, Path, Path]:
        """Where CA, certificate and key may be, by which the node's dockerd listens on TCP, too."""
        return self.path / "docker-ca.pem", self.path / f"{node}.crt", self.path / f"{node}.key"

    def log(self, node: str) -> Path:
        return self.path / f"{node}.log"

    def spec(self) -> Spec:
        try:
            return Spec(**json.loads(self.record.read_text()))
        except FileNotFoundError as error:
            raise LabError(
                f"there is no lab in {self.path}: `list` shows those there are"
            ) from error
        except (TypeError, ValueError) as error:
            raise LabError(
                f"{self.record} cannot be read ({error}), perhaps another version wrote it: "
                f"if no process of that lab runs, remove {self.path}"
            ) from error

    def write(self, spec: Spec) -> None:
        """Record the lab, all or nothing; without a record nothing of it was started yet."""
        unfinished = self.record.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(spec), indent=2) + "\n")
        unfinished.rename(self.record)

    @contextmanager
    def life(self) -> Iterator[Callable[[], bool]]:
        """A question for as long as the context lasts: does the lab live? Also if it goes away."""
        try:
            descriptor = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield lambda: False
            return
        try:
            # Shared, so that two who ask at once do not take each other for the lab.
            yield lambda: not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def is_alive(self) -> bool:
        with self.life() as lives:
            return lives()

    def clean(self) -> None:
        """Remove what a lab leaves behind: its cgroups as recorded, then the folder."""
        if self.record.exists():
            cgroups.remove(self.spec().cgroup)
        # Again, if a process that was killed this moment has still added a file.
        wait_until(self._try_remove, 60, f"{self.path} to be removed")

    def _try_remove(self) -> bool:
        shutil.rmtree(self.path, ignore_errors=True)
        return not self.path.exists()


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim(spec: Spec) -> tuple[Folder, int]:
    """Make the folder of a new lab; returns it and the descriptor that holds its lock."""
    folder = Folder(spec.name)
    with _base_lock():
        _reap()
        try:
            folder.path.mkdir()
        except FileExistsError as error:
            raise LabError(
                f"a lab named {spec.name!r} is running: use another name, "
                f"or end it with `python -m tests.lab down {spec.name}`"
            ) from error
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    folder.private.mkdir()
    folder.client_config.mkdir()
    folder.write(spec)
    return folder, descriptor


def alive() -> list[Folder]:
    """The folders of all labs that run now, by name."""
    return [folder for folder in _all() if folder.is_alive()]


def reap() -> None:
    """Clean up after every lab whose processes are gone but whose folder is not."""
    with _base_lock():
        _reap()


def _reap() -> None:
    for folder in _all():
        if not folder.is_alive():
            folder.clean()


def _all() -> list[Folder]:
    if not BASE.is_dir():
        return []
    return [Folder(path.name) for path in sorted(BASE.iterdir()) if path.is_dir()]


@contextmanager
def _base_lock() -> Iterator[None]:
    """Keep others from reaping a folder between its creation and the taking of its lock."""
    BASE.mkdir(exist_ok=True)
    descriptor = os.open(BASE / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait_until(
            lambda: _try_lock(descriptor, fcntl.LOCK_EX),
            90,
            f"another process to let go of {BASE}",
        )
        yield
    finally:
        os.close(descriptor)
