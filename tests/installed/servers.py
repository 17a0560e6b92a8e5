"""One image with Debian's Redis, PostgreSQL and HAProxy, under the names that compose.yml has."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests import images
from tests.lab import Node

NAMES: Final = ("redis:8", "postgres:17", "haproxy:3.2")
_PACKAGES: Final = "redis-server,redis-tools,postgresql,haproxy"
# Of the just-in-time compiler, a third of the whole; without its module PostgreSQL does without.
_WITHOUT: Final = ("*/libLLVM*", "*/libz3.so*", "*/llvmjit*", "*/bitcode/*", "./usr/share/doc/*")
_ENTRYPOINT: Final = Path(__file__).with_name("postgres-entrypoint")


def load(node: Node) -> None:
    """Import the image on a node, under all its names."""
    archive = images.archive("servers", _PACKAGES, without=_WITHOUT, prepare=_prepare)
    changes = (
        "ENV PATH=/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        'ENTRYPOINT ["/postgres-entrypoint"]',
    )
    options = [f"--change={change}" for change in changes]
    first, *others = NAMES
    images.import_archive(node, archive, first, *options)
    for name in others:
        node.docker("tag", first, name)


def _prepare(root: Path) -> None:
    """Give PostgreSQL the user that it has in Docker's image, 999, and its folders there."""
    shutil.copy(_ENTRYPOINT, root / "postgres-entrypoint")
    for command in (
        ("groupmod", "--gid", "999", "postgres"),
        ("usermod", "--uid", "999", "postgres"),
        ("install", "-d", "-o", "postgres", "-g", "postgres", "/var/lib/postgresql/data"),
        ("install", "-d", "-o", "postgres", "-m", "3777", "/run/postgresql"),
    ):
        subprocess.run(["chroot", str(root), *command], check=True, timeout=60)
