"""The lock that keeps an SQLite database to one controller."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from contract.runtime.errors import OperatorError
from contract.runtime.files import why_not_ours
from controller.db.engine import sqlite_file


@contextmanager
def only_one(database_url: str) -> Iterator[None]:
    """Lock an SQLite database for this controller; on PostgreSQL do nothing.

    Raises:
        OperatorError: another process holds the lock.
    """
    file = sqlite_file(database_url)
    if file is None:
        yield
        return
    path = file.with_name(f"{file.name}.lock")
    remedy = "end it, or give this one another VXLAN_OPERATOR_DATABASE_URL (two need PostgreSQL)"
    with ExitStack() as held:
        try:
            # Without Python's buffer, which a full disk would break once more at the end.
            lock = held.enter_context(path.open("ab+", buffering=0))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(20).decode(errors="replace").strip() or "unknown"
            raise OperatorError(
                f"the database {file} is in use by another controller, process {holder}", remedy
            ) from None
        except OSError as error:
            raise OperatorError(
                f"the file {path} cannot be written: {error.strerror}",
                why_not_ours(path)
                or "make room there, or set VXLAN_OPERATOR_DATABASE_URL to a file in a folder that this "
                "program may write",
            ) from error
        yield
