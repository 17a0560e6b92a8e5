"""The operator's images for tests: built on a base of Debian packages, for want of a registry."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract import VERSION
from tests.lab import LabError, Node
from tests.lab.engine import debootstrap
from tests.lab.prerequisites import docker_client

BASE: Final = "vxlan-operator-base:trixie"
WORKER: Final = f"vxlan-operator-worker:{VERSION}"
CONTROLLER: Final = f"vxlan-operator-controller:{VERSION}"

_ROOT: Final = Path(__file__).resolve().parents[1]
_CACHE: Final = Path(os.environ.get("ENGINES", "/var/tmp/vxlan-operator-engines"))  # noqa: S108 -- as root
_BASE_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_BUILD_SECONDS: Final = 600.0
_COPY_SECONDS: Final = 120.0


def build(node: Node, *, base: str = BASE, tag: str = VERSION, buildkit: bool = True) -> None:
    """Build both images with `make images` on a node's dockerd; the base is imported where it is missing."""
    if base == BASE and not node.docker("images", "--quiet", BASE).strip():
        import_archive(node, base_archive(), BASE)
    _make(
        {
            "BASE": base,
            "TAG": tag,
            # This machine's client, for that of another engine sees none of our files.
            "DOCKER": f"{docker_client()} --host {node.docker_host}",
            "DOCKER_BUILDKIT": str(int(buildkit)),
        }
    )


def import_archive(node: Node, archive: Path, name: str, *options: str) -> None:
    """Make an image of a tar on a node."""
    client = [docker_client(), "--host", node.docker_host]
    subprocess.run(
        [*client, "import", *options, str(archive), name],
        stdout=subprocess.DEVNULL,
        timeout=_COPY_SECONDS,
        check=True,
    )


def copy(images: Sequence[str], source: Node, targets: Sequence[Node]) -> None:
    """Load images of one node on others, as without a registry: `docker save | docker load`."""
    for target in targets:
        with subprocess.Popen(
            source.docker_command("save", *images), stdout=subprocess.PIPE
        ) as saved:
            subprocess.run(
                target.docker_command("load", "--quiet"),
                stdin=saved.stdout,
                stdout=subprocess.DEVNULL,
                timeout=_COPY_SECONDS,
                check=True,
            )
        if saved.returncode != 0:
            raise LabError(f"docker save on {source.name} failed with status {saved.returncode}")


def base_archive() -> Path:
    """Return a tar of a small Debian 13 with Python."""
    return archive("base", _BASE_PACKAGES)


def archive(
    name: str,
    packages: str,
    *,
    without: Sequence[str] = (),
    prepare: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Return a tar of a small Debian 13 with packages; made once per machine, by debootstrap.

    Args:
        name: of the archive; a change of the others needs another.
        without: patterns of paths that are left out.
        prepare: what else to do in the root folder.
    """
    found = _CACHE / f"image-{name}-trixie.tar"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(found.with_suffix(".lock")):
        if not found.exists():
            root = _CACHE / f"image-{name}-trixie.unfinished"
            shutil.rmtree(root, ignore_errors=True)
            try:
                debootstrap("trixie", root, packages)
                prepare(root)
                unfinished = found.with_suffix(".tar.unfinished")
                left_out = ["./var/cache/apt/*", "./var/lib/apt/lists/*", "./dev/*", "./var/log/*"]
                subprocess.run(
                    [
                        *("tar", "-C", str(root), "--one-file-system", "--sort=name"),
                        *(f"--exclude={path}" for path in (*left_out, *without)),
                        *("-cf", str(unfinished), "."),
                    ],
                    timeout=_COPY_SECONDS,
                    check=True,
                )
                unfinished.rename(found)
            finally:
                shutil.rmtree(root, ignore_errors=True)
    return found


def _make(variables: dict[str, str]) -> None:
    # The wheels are in one folder of this checkout.
    with _locked(_CACHE / "make-images.lock"):
        done = subprocess.run(
            ["make", "--silent", "images"],
            cwd=_ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(f"make images failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other test runs respect."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
