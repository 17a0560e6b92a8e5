"""What an image consists of: its files as `docker export` writes them, and its settings."""

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from typing import Any

from tests.lab import Node

CAPABILITY = "SCHILY.xattr.security.capability"
_SBOM = "opt/vxlan-operator/share/sbom.cdx.json"


@dataclass(frozen=True)
class Exported:
    """One image.

    Attributes:
        files: by path, without a leading slash.
        digests: SHA-256 of the regular ones.
        sbom: list of the Python packages (CycloneDX); empty: there is none.
        settings: `Config` of `docker inspect`.
        size: bytes of all layers.
        history: the commands of its layers.
    """

    files: dict[str, tarfile.TarInfo]
    digests: dict[str, str]
    sbom: bytes
    settings: dict[str, Any]
    size: int
    history: str

    @classmethod
    def of(cls, node: Node, image: str) -> "Exported":
        shown = json.loads(node.docker("image", "inspect", image))[0]
        container = node.docker("create", image).strip()
        files, digests, sbom = {}, {}, b""
        try:
            with (
                subprocess.Popen(
                    node.docker_command("export", container), stdout=subprocess.PIPE
                ) as export,
                tarfile.open(fileobj=export.stdout, mode="r|") as archive,
            ):
                for member in archive:
                    files[member.name.rstrip("/")] = member
                    if member.isreg() and (file := archive.extractfile(member)):
                        content = file.read()
                        digests[member.name] = hashlib.sha256(content).hexdigest()
                        sbom = content if member.name == _SBOM else sbom
            assert export.returncode == 0
        finally:
            node.docker("rm", "--volumes", container)
        history = node.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
        return cls(files, digests, sbom, shown["Config"], shown["Size"], history)

    def packages(self) -> set[str]:
        """The names of the installed Python packages, as `name-version`."""
        return {
            path.split("/")[-1].removesuffix(".dist-info")
            for path in self.files
            if path.endswith(".dist-info")
        }
