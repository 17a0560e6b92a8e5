"""Makes the root folder of another Docker engine, out of another release of Debian."""

import os
import shutil
import subprocess
from pathlib import Path

from .command import run
from .errors import LabError
from .prerequisites import find

_PACKAGES = "docker.io,docker-cli,iptables,iproute2,ca-certificates"
_TIMEOUT = 1200.0
# In a finished root folder, naming the suite that it was made of.
_MARK = ".vxlan-lab-engine"


def make(suite: str, root: Path, mirror: str | None = None) -> str:
    """Make `root` of the Debian release `suite`; returns the version of its engine.

    Does nothing if that was done before. `mirror` is by default the one this machine's apt uses.
    """
    _check(root, suite)
    if not (root / _MARK).exists():
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _debootstrap(suite, unfinished, mirror or _mirror())
        (unfinished / _MARK).write_text(f"{suite}\n")
        if root.exists():
            root.rmdir()
        unfinished.rename(root)
    return run(["chroot", root, "dockerd", "--version"]).stdout.strip()


def _check(root: Path, suite: str) -> None:
    if os.geteuid() != 0:
        raise LabError("an engine's root folder is made by debootstrap, which needs root")
    if find("debootstrap") is None:
        raise LabError("there is no debootstrap: apt-get install debootstrap")
    mark = root / _MARK
    if mark.exists() and mark.read_text().strip() != suite:
        raise LabError(f"{root} holds an engine from {mark.read_text().strip()}, not from {suite}")
    if not mark.exists() and root.exists() and any(root.iterdir()):
        raise LabError(f"{root} is neither empty nor an engine's root folder: name another")


def _debootstrap(suite: str, root: Path, mirror: str) -> None:
    options = ["--variant=minbase", f"--include={_PACKAGES}"]
    command = ["debootstrap", *options, suite, str(root), mirror]
    try:
        # Its output is shown: this takes minutes, and a person is waiting.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"debootstrap of {suite} took longer than {_TIMEOUT:g} s") from error
    if done.returncode != 0:
        raise LabError(
            f"debootstrap of {suite} from {mirror} failed: see its log, "
            f"{root / 'debootstrap/debootstrap.log'}"
        )


def _mirror() -> str:
    """The first Debian archive among the sources of this machine's apt, security updates aside."""
    shown = run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"]).stdout
    for line in shown.splitlines():
        label, _, uri = line.partition(" ")
        if label == "Debian":
            return uri.rstrip("/")
    raise LabError(
        "apt on this machine knows no Debian archive (try `apt-get update`): name one with --mirror"
    )
