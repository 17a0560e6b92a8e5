"""Makes the root folder of another Docker engine, HAProxy and Valkey, out of another release of Debian."""

import os
import shutil
import subprocess
from pathlib import Path

from .command import run
from .errors import LabError
from .prerequisites import find

_PACKAGES = "docker.io,docker-cli,iptables,iproute2,ca-certificates"
# Beside the engine, for other tests; a folder that was made before gets them added.
_SERVERS = {"haproxy": "usr/sbin/haproxy", "valkey-server": "usr/bin/valkey-server"}
_WITH_PROC = 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"'
_TIMEOUT = 1200.0
# In a finished root folder, naming the suite that it was made of.
_MARK = ".vxlan-lab-engine"


def make(suite: str, root: Path, mirror: str | None = None) -> str:
    """Make `root` of the Debian release `suite`; returns the version of its engine.

    Does nothing if that was done before. `mirror` is by default the one this machine's apt uses.
    """
    _check_root(root, suite)
    if not (root / _MARK).exists():
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        debootstrap(suite, unfinished, _PACKAGES, mirror)
        (unfinished / _MARK).write_text(f"{suite}\n")
        if root.exists():
            root.rmdir()
        unfinished.rename(root)
    _add_servers(root)
    return run(["chroot", root, "dockerd", "--version"]).stdout.strip()


def _check_root(root: Path, suite: str) -> None:
    mark = root / _MARK
    if mark.exists() and mark.read_text().strip() != suite:
        raise LabError(f"{root} holds an engine from {mark.read_text().strip()}, not from {suite}")
    if not mark.exists() and root.exists() and any(root.iterdir()):
        raise LabError(f"{root} is neither empty nor an engine's root folder: name another")


def debootstrap(suite: str, root: Path, packages: str, mirror: str | None = None) -> None:
    """Make `root` of a Debian release, with additional packages; `mirror` is by default apt's."""
    if os.geteuid() != 0:
        raise LabError("debootstrap, which makes root folders, needs root")
    if find("debootstrap") is None:
        raise LabError("there is no debootstrap: apt-get install debootstrap")
    mirror = mirror or _mirror()
    options = ["--variant=minbase", f"--include={packages}"]
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


def _add_servers(root: Path) -> None:
    missing = [package for package, file in _SERVERS.items() if not (root / file).exists()]
    if not missing:
        return
    # In a root folder nothing is started: invoke-rc.d sees no init system. Install scripts need /proc.
    inside = ["unshare", "--mount", "sh", "-ec", _WITH_PROC, str(root)]
    # A mirror may lag behind an unstable release, which expires in days; debootstrap does not look either.
    apt = [*inside, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    apt += ["-o", "Acquire::Check-Valid-Until=false"]
    run([*apt, "update"], timeout=_TIMEOUT)
    run([*apt, "install", "-y", "--no-install-recommends", *missing], timeout=_TIMEOUT)


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
