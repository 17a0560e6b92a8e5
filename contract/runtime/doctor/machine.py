"""Checks of this machine: versions, folders and disks."""

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contract import VERSION
from contract.runtime.doctor.checks import Result, fail, ok, warn

_MIN_FREE_BYTES: Final = 100 << 20


def versions(program: str) -> Iterator[Result]:
    """Tell the versions of the program and of what it runs on."""
    yield ok("version", f"{program} {VERSION}, Python {platform.python_version()}")


def private(check: str, path: Path) -> Iterator[Result]:
    """Check that a file, if it is there, belongs to this user or root, and that no other may read it."""
    try:
        found = path.stat()
    except OSError:
        return
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield warn(check, f"others may read {path}", f"chmod 600 {path}")
    if found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        message = f"{path} belongs to uid {found.st_uid}, and this is uid {os.geteuid()}"
        yield warn(check, message, f"chown {os.geteuid()} {path}")


def folder(check: str, path: Path, *, private: bool) -> Iterator[Result]:
    """Check the folder of a file that is written: permissions and room.

    Args:
        path: the file.
        private: whether others must not read it.
    """
    parent = path.parent
    if not parent.is_dir():
        yield fail(check, f"there is no folder {parent}", f"mkdir -p -m 700 {parent}")
        return
    if not os.access(parent, os.W_OK | os.X_OK):
        hint = f"run it as the user that owns {parent}, or chown it"
        yield fail(check, f"{parent} cannot be written by uid {os.geteuid()}", hint)
        return
    free = shutil.disk_usage(parent).free
    if free < _MIN_FREE_BYTES:
        message = f"{free >> 20} MB are free in {parent}"
        yield (fail if free < 1 << 20 else warn)(check, message, "make room on that disk")
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        yield ok(check, f"{path} will be created, {free >> 20} MB are free")
        return
    if private and stat.S_IMODE(mode) & 0o077:
        yield warn(check, f"others may read {path}", f"chmod 600 {path}")
        return
    yield ok(check, f"{path} can be written, {free >> 20} MB are free")
