"""Starts a lab's init in new namespaces, bound to its owner's life, and ends it again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from .control import Control
from .errors import LabError
from .folder import Folder, reap
from .prerequisites import SEARCH_PATH
from .spec import Spec
from .wait import wait_until

_IMPORT_ROOT = Path(__file__).resolve().parents[2]
_BUILD_TIMEOUT = 90.0
_END_TIMEOUT = 90.0


def launch(spec: Spec, folder: Folder, lock: int) -> subprocess.Popen[bytes]:
    """Start the init, which then builds the lab; it inherits `lock`, and so shows that it lives.

    `unshare` stays as the parent of init, in our PID namespace; --kill-child makes init die with
    it. In a new session, so that Ctrl-C in the owner's terminal leaves an orderly end to the owner.
    """
    owner = None if spec.keep else os.pidfd_open(os.getpid())
    inherited = [lock] if owner is None else [lock, owner]
    try:
        with folder.init_log.open("wb") as log:
            return subprocess.Popen(
                [
                    *("unshare", "--pid", "--fork", "--kill-child"),
                    *("--mount", "--mount-proc", "--net"),
                    *(sys.executable, "-m", f"{__package__}.init", spec.name),
                    *(() if owner is None else ("--owner", str(owner))),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": SEARCH_PATH, "PYTHONPATH": str(_IMPORT_ROOT)},
                pass_fds=inherited,
                start_new_session=True,
            )
    finally:
        for descriptor in inherited:
            os.close(descriptor)


def await_built(process: subprocess.Popen[bytes], folder: Folder) -> Control:
    return wait_until(
        lambda: _connect(process, folder),
        _BUILD_TIMEOUT,
        f"the lab to be built (the log of its init: {folder.init_log})",
    )


def end(folder: Folder) -> None:
    """End a lab: ask its init, or kill it if it does not listen; returns when nothing is left."""
    with folder.life() as lives:
        try:
            Control(folder).ask("end")
            wait_until(lambda: not lives(), _END_TIMEOUT, "the lab's init to end the lab")
        except LabError:
            if lives():
                _kill(folder)
                wait_until(lambda: not lives(), _END_TIMEOUT, "the lab's killed processes to go")
    # Not the folder's own `clean`: by now the name may be another lab's.
    reap()


def _connect(process: subprocess.Popen[bytes], folder: Folder) -> Control | None:
    if process.poll() is not None:
        said = folder.init_log.read_text(errors="replace").strip()
        raise LabError(f"the lab could not be built: {said or 'its init died without a word'}")
    try:
        return Control(folder)
    except LabError:
        return None


def _kill(folder: Folder) -> None:
    """Kill a lab's init, and with it, by the kernel, all processes of the lab."""
    init = os.pidfd_open(Control(folder).init_pid)
    try:
        signal.pidfd_send_signal(init, signal.SIGKILL)
    finally:
        os.close(init)
