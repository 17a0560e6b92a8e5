"""`Machine`: a Debian release, booted by its own systemd in namespaces of its own."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tests.lab.cgroups import remove
from tests.lab.engine import debootstrap

_CACHE: Final = Path(os.environ.get("ENGINES", "/var/tmp/vxlan-operator-engines"))  # noqa: S108 -- as root
_PACKAGES: Final = "systemd,iproute2,rpm"
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_SECONDS: Final = 120.0

_BOOT: Final = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
# What the kernel has but once is not the machine's to set.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
for device in null zero full random urandom; do
  touch dev/$device
  mount --bind /dev/$device dev/$device
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run
exec chroot . env -i container=other "PATH=$3" /lib/systemd/systemd --unit=multi-user.target
"""


def pristine(suite: str) -> Path:
    """Return the root folder of a Debian release with systemd, and without Python; made once a machine."""
    root = _CACHE / f"machine-{suite}"
    if not root.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        debootstrap(suite, unfinished, _PACKAGES)
        unfinished.rename(root)
    return root


class Machine:
    """A release of Debian; what is written in it is gone at the end.

    Attributes:
        pid: of its systemd.
    """

    def __init__(self, suite: str, folder: Path) -> None:
        self._cgroup = f"/vxlan-packages-{os.getpid()}-{suite}"
        self._root = pristine(suite)
        self._folder = folder
        self.pid = 0

    def __enter__(self) -> Self:
        self._folder.mkdir()
        boot = ("sh", "-c", _BOOT, "boot", str(self._root), str(self._folder), _PATH)
        spaces = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork")
        # Its cgroups are below one of ours, so it sees nobody else's.
        joined = 'for each in "$@"; do [ "$each" = -- ] && break; echo $$ > "$each/cgroup.procs"; shift; done'
        groups = [str(mount) for mount in self._groups()]
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--", "sh", "-ec"),
                f'{joined}; shift; exec unshare "$@"',
                *("sh", *groups, "--", *spaces, "--kill-child", "--", *boot),
            ],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        try:
            self._await_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)
        remove(self._cgroup)

    def command(self, *arguments: str) -> list[str]:
        """The command that runs a program in here, as root, with nothing in its environment."""
        return [
            "nsenter", "--target", str(self.pid), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup",
            "--root", "--wdns=/", "--", "env", "-i", f"PATH={_PATH}", "HOME=/root", *arguments,
        ]  # fmt: skip

    def run(self, *arguments: str, check: bool = True, words: str = "") -> str:
        """Run a program; return what it printed, errors as well.

        Raises:
            AssertionError: it ended with another status than 0, unless `check` is false.
        """
        status, printed = self.status(*arguments, words=words)
        assert not check or status == 0, f"{arguments}: status {status}\n{printed}"
        return printed

    def status(self, *arguments: str, words: str = "") -> tuple[int, str]:
        """Run a program; return its exit status, and what it printed, errors as well."""
        done = subprocess.run(
            self.command(*arguments),
            input=words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    def path(self, inside: str) -> Path:
        """Where this machine's file is for us."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def files(self) -> set[str]:
        """All files, but those of the kernel, of this boot and of logs."""
        left_out = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/log", "/var/tmp")  # noqa: S108
        pruned = " -o ".join(f"-path {each}" for each in left_out)
        found = self.run("sh", "-c", f"find / \\( {pruned} \\) -prune -o -print")
        return set(found.splitlines())

    def _groups(self) -> list[Path]:
        mounts = [
            Path(fields[1])
            for fields in map(str.split, Path("/proc/mounts").read_text().splitlines())
            if fields[2] == "cgroup2" or (fields[2] == "cgroup" and "name=systemd" in fields[3])
        ]
        groups = [mount / self._cgroup[1:] for mount in mounts]
        for group in groups:
            group.mkdir()
        return groups

    def _await_boot(self) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        state = "not begun"
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "systemd ended while it booted"
            with suppress(OSError, ValueError):
                children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
                self.pid = int(children.read_text())
                if Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n":
                    _, state = self.status("systemctl", "is-system-running", "--wait")
                    if state.strip() in ("running", "degraded"):
                        return
            time.sleep(0.2)
        raise AssertionError(f"systemd did not boot within {_BOOT_SECONDS:g} s: {state}")
