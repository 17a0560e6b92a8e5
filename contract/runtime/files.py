"""Files: opening only regular ones, creating one whole or not at all, and replacing one atomically."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import BinaryIO, Literal


def open_regular(path: Path, mode: Literal["rb", "ab", "xb"]) -> FileIO:
    """Open a regular file, or create one that only its owner may read.

    What root creates in another user's folder is that user's: a person makes a key, and the service, which
    has a user of its own, must read it.

    Raises:
        OSError: it is something else: writing to that, or replacing it, would harm others.
    """

    def opener(name: str, flags: int) -> int:
        # O_NONBLOCK: else opening a pipe waits for its other end.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        if flags & os.O_CREAT and os.geteuid() == 0:
            try:
                file = os.open(name, flags | os.O_EXCL, 0o600)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
            else:
                _give_to_owner(file, path.parent)
                return file
        return os.open(name, flags, 0o600)

    irregular = OSError(errno.EINVAL, f"{path} is not a regular file")
    try:
        file = FileIO(str(path), mode, opener=opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            message = f"{path} is a symbolic link: name the file itself"
            raise OSError(errno.ELOOP, message) from error
        if error.errno == errno.ENXIO:  # A pipe without a reader, or a socket.
            raise irregular from error
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise irregular
    return file


def _give_to_owner(file: int, folder: Path) -> None:
    owner = folder.stat()
    if owner.st_uid != 0:
        with suppress(PermissionError):  # Root of a container, which may not do that.
            os.fchown(file, owner.st_uid, owner.st_gid)


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` at the end of the block: a crash leaves the old file or the new one.

    The file is `path` with `.new` until then; only its owner may read it.

    Args:
        sync: wait until it is on disk; without that, a power failure may leave neither.

    Raises:
        OSError: it cannot be written, or something other than a file of an earlier crash has its name.
    """
    new = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        open_regular(new, "rb").close()
        new.unlink()
    with BufferedWriter(open_regular(new, "xb")) as file:
        yield file
        file.flush()
        if sync:
            os.fsync(file.fileno())
    new.replace(path)
    if sync:
        _sync_folder(path)


def create(path: Path, content: bytes) -> None:
    """Create a file that only its owner may read: whole and on disk, or not at all.

    Raises:
        FileExistsError: there is something at `path`, also if another process was quicker.
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        with BufferedWriter(open_regular(new, "xb")) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename it fails where something is.
        os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
    _sync_folder(path)


def why_not_ours(file: Path) -> str | None:
    """Return a hint if this process may not write into the folder of a file of its own; None: it may.

    So it is in a container whose volume an older image made, as root.
    """
    folder, uid = file.parent, os.geteuid()
    if not folder.is_dir() or os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return None
    owner = folder.stat().st_uid
    return (
        f"{folder} belongs to uid {owner}, and this process is uid {uid}; as root: "
        f"chown -R {uid}:{os.getegid()} {folder}"
    )


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
