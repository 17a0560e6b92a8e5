"""The one image in a lab: this machine's static busybox, so that no registry is needed."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from .command import run
from .errors import LabError
from .prerequisites import find

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SETTINGS = {
    "Env": ["PATH=/bin"],
    "Cmd": ["sleep", "2147483647"],
    # By default a container is stopped with SIGTERM, which the first process of a PID namespace
    # ignores unless it handles it: each stop, and each start of a dockerd after a crash, would
    # take 10 s.
    "StopSignal": "SIGKILL",
}


def build(tag: str) -> bytes:
    """The image as `docker save` would write it; unlike `docker import`, it has a stop signal."""
    layer = _layer()
    machine = platform.machine()
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": _SETTINGS,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add_file(archive, "layer.tar", layer)
        _add_file(archive, "config.json", json.dumps(config).encode())
        _add_file(archive, "manifest.json", json.dumps(manifest).encode())
    return buffer.getvalue()


def _layer() -> bytes:
    """A root file system as a tar: /bin/busybox, and each of its applets as a symlink."""
    busybox = find("busybox")
    if busybox is None:
        raise LabError("there is no busybox: apt-get install busybox-static")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "root", "tmp", "var"):
            _add_folder(archive, folder)
        _add_file(archive, "bin/busybox", Path(busybox).read_bytes(), mode=0o755)
        for applet in run([busybox, "--list"]).stdout.split():
            if applet != "busybox":
                _add_link(archive, f"bin/{applet}", to="busybox")
    return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    entry.mode = 0o1777 if name == "tmp" else 0o755
    archive.addfile(entry)


def _add_link(archive: tarfile.TarFile, name: str, to: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.SYMTYPE
    entry.linkname = to
    archive.addfile(entry)
