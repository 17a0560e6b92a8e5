"""What the machine must have before a lab can boot, and how to get what is missing."""

import os
import shutil
from pathlib import Path

from .errors import LabError

_PACKAGES = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "hostname": "hostname",
    "ip": "iproute2",
    "busybox": "busybox-static",
}
_ENGINE_PACKAGES = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "docker": "docker.io",
    "iptables": "iptables",
}
# Also where a user's PATH lacks the sbin folders, as Debian's does.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(engine: Path | None) -> None:
    """Raise a LabError that names everything that is missing at once."""
    if os.geteuid() != 0:
        raise LabError("a lab makes namespaces and mounts: run it as root")
    needed = _PACKAGES if engine is not None else _PACKAGES | _ENGINE_PACKAGES
    missing = {command for command in needed if find(command) is None}
    if missing:
        packages = sorted({needed[command] for command in missing})
        raise LabError(
            f"missing on this machine: {', '.join(sorted(missing))}; "
            f"on Debian: apt-get install --no-install-recommends {' '.join(packages)}"
        )
    if engine is not None and not (engine / "usr/sbin/dockerd").exists():
        raise LabError(
            f"{engine} is no engine's root folder (it has no usr/sbin/dockerd): "
            f"make one with `python -m tests.lab engine trixie {engine}`"
        )


def find(command: str) -> str | None:
    return shutil.which(command, path=SEARCH_PATH)


def docker_client() -> str:
    """The docker client that came with the machine's dockerd, else any.

    A machine may have a second, newer client first in PATH, and a client that is much newer than
    the daemon refuses to talk to it.
    """
    dockerd = find("dockerd")
    if dockerd is not None:
        folder = Path(dockerd).parent
        for candidate in (folder / "docker", folder.parent / "bin" / "docker"):
            if os.access(candidate, os.X_OK):
                return str(candidate)
    return find("docker") or "docker"
