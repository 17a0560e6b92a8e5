"""Starting a node's dockerd; runs inside the lab, in its init."""

import subprocess

from .folder import Folder
from .prerequisites import SEARCH_PATH
from .spec import NodeSpec, Spec
from .wiring import enter

# In the node's own /run, with dockerd's default exec-root beside it in /run/docker.
DATA_ROOT = "/run/docker-data"
TLS_PORT = 2376


def start(node: NodeSpec, holder: int, spec: Spec, folder: Folder) -> subprocess.Popen[bytes]:
    """Start dockerd in the namespaces of `holder`; its log goes on at the end of the node's file."""
    with folder.log(node.name).open("ab") as log:
        return subprocess.Popen(
            [*enter(holder), *_command(node, spec, folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Nothing of the caller's environment: a proxy or DOCKER_HOST would change the engine.
            env={"PATH": SEARCH_PATH},
            start_new_session=True,
        )


def _command(node: NodeSpec, spec: Spec, folder: Folder) -> list[str]:
    return [
        "dockerd",
        f"--host=unix://{folder.socket(node.name)}",
        f"--data-root={DATA_ROOT}",
        # Every cgroup of the lab is then below one that teardown knows. The systemd driver, the
        # default on some machines, would make them by way of a systemd that no node has.
        f"--cgroup-parent={spec.cgroup}/{node.name}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        *_tls(node, folder),
    ]


def _tls(node: NodeSpec, folder: Folder) -> list[str]:
    authority, certificate, key = folder.tls(node.name)
    if not certificate.exists():
        return []
    return [
        f"--host=tcp://{node.address}:{TLS_PORT}",
        "--tlsverify",
        f"--tlscacert={authority}",
        f"--tlscert={certificate}",
        f"--tlskey={key}",
    ]
