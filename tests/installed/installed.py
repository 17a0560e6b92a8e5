"""The operator as its scripts install it on a lab: running them, asking `vxctl` inside, and what is there."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from contract.verdicts import DEVICE_STAGES
from tests.images import CONTROLLER, WORKER
from tests.lab import Lab, LabError, Node
from tests.lab.prerequisites import docker_client

STACK: Final = "vxlan-operator"
LABEL: Final = f"com.docker.stack.namespace={STACK}"
ROOT: Final = Path(__file__).resolve().parents[2]
_SCRIPT_SECONDS: Final = 400.0
_EXEC_SECONDS: Final = 40.0


class Installed:
    """The scripts of packaging/stack, and the stack that they made.

    Args:
        folder: for a `docker` and an `ssh` that the scripts find first.

    Attributes:
        home: the manager where the scripts are run, if no other is named.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.home = lab.manager
        self._folder = folder
        # This machine's client also for another engine, whose own sees none of our files.
        (folder / "docker").symlink_to(docker_client())
        ssh = folder / "ssh"
        sockets = lab.folder
        ssh.write_text(
            f'#!/bin/sh\nnode=$2\nshift 2\nDOCKER_HOST=unix://{sockets}/$node.sock exec "$@"\n'
        )
        ssh.chmod(0o755)

    def script(
        self,
        name: str,
        *arguments: str,
        node: Node | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a script on a node (None: the home)."""
        return subprocess.run(
            [str(self.path(name)), *arguments],
            env=self.environment(node, variables),
            capture_output=True,
            text=True,
            timeout=_SCRIPT_SECONDS,
            check=False,
        )

    def shell(self, folder: Path, *commands: str, **variables: str) -> str:
        """Run commands of the documents at home, in a folder; return what they print.

        Raises:
            LabError: one fails.
        """
        text = "\n".join(commands).replace("packaging/stack/", f"{ROOT}/packaging/stack/")
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=folder,
            env=self.environment(None, variables),
            capture_output=True,
            text=True,
            timeout=_SCRIPT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"{text}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def install(self, *arguments: str) -> str:
        """Install, and return what that says."""
        done = self.script("install", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def docker(self, *arguments: str, node: Node | None = None) -> str:
        """What this machine's client says to a node's Docker (None: the home's)."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment(node),
            capture_output=True,
            text=True,
            timeout=_EXEC_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    @staticmethod
    def path(name: str) -> Path:
        """A script's file."""
        return ROOT / "packaging" / "stack" / name

    def environment(
        self, node: Node | None = None, variables: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The environment in which a script speaks to a node's Docker (None: the home's)."""
        return {
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "DOCKER_HOST": (node or self.home).docker_host,
            "DOCKER_CONFIG": str(self.lab.folder / "client"),
            **(variables or {}),
        }

    def next_images(self) -> dict[str, str]:
        """Make images of a next version on every node; return the variables that name them."""
        return {
            "WORKER_IMAGE": self.image_of(WORKER, "next", "LABEL next=true"),
            "CONTROLLER_IMAGE": self.image_of(CONTROLLER, "next", "LABEL next=true"),
        }

    def image_of(self, image: str, suffix: str, line: str) -> str:
        """Make an image on every node that is another one with a line of a Dockerfile; return its name."""
        name = f"{image}-{suffix}"
        for node in self.lab.nodes:
            subprocess.run(
                ["docker", "build", "--quiet", "--tag", name, "-"],
                input=f"FROM {image}\n{line}\n",
                env=self.environment(node, {"DOCKER_BUILDKIT": "0"}),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        return name

    def image(self, service: str) -> str:
        """The image of a service, as it is to run."""
        shown = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
        return self.docker("service", "inspect", "--format", shown, f"{STACK}_{service}")

    # What is there

    def tasks(self, service: str = "") -> dict[str, str]:
        """Id and node of each task that is to run, of the whole stack or of one service."""
        command = ["service", "ps", f"{STACK}_{service}"] if service else ["stack", "ps", STACK]
        shown = self.docker(
            *command,
            "--no-trunc",
            "--filter",
            "desired-state=running",
            "--format",
            "{{.ID}} {{.Node}}",
        )
        return dict(line.split() for line in shown.splitlines())

    def manages(self, node: Node) -> bool:
        """Whether a node is a manager that answers."""
        try:
            return bool(self.docker("node", "ls", "--quiet", node=node))
        except LabError:
            return False

    def tasks_left(self) -> str:
        """The tasks of the stack, also those that are ending."""
        try:
            return self.docker("stack", "ps", "--quiet", STACK)
        except LabError:
            return ""

    def state(self) -> dict[str, Any]:
        """Everything that an installation makes: tasks, specifications, secrets and labels."""
        services = self.docker("service", "ls", "--quiet", "--filter", f"label={LABEL}").split()
        specs = json.loads(self.docker("service", "inspect", *services)) if services else []
        return {
            "tasks": self.tasks(),
            "specs": {each["Spec"]["Name"]: each["Spec"] for each in specs},
            "secrets": sorted(self.docker("secret", "ls", "--quiet").split()),
            "configs": sorted(self.docker("config", "ls", "--quiet").split()),
            "labels": [self.labels(node) for node in self.lab.nodes],
        }

    def labels(self, node: Node) -> Any:
        """A node's labels."""
        return json.loads(
            self.docker("node", "inspect", "--format", "{{json .Spec.Labels}}", node.name)
        )

    # The operator

    def controllers(self) -> Sequence[tuple[Node, str]]:
        """Nodes with a controller's container, and its id."""
        found = []
        for node in self.lab.nodes:
            try:
                shown = self.docker(
                    "ps", "--quiet",
                    "--filter", f"label=com.docker.swarm.service.name={STACK}_controller", node=node,
                )  # fmt: skip
            except LabError:
                continue
            found += [(node, container) for container in shown.split()]
        return found

    def vxctl(self, *arguments: str) -> str:
        """What `vxctl` says in the first controller that answers."""
        errors = []
        for node, container in self.controllers():
            try:
                return self.docker("exec", container, "vxctl", *arguments, node=node)
            except (LabError, subprocess.TimeoutExpired) as error:
                errors.append(str(error))
        raise LabError("; ".join(errors) or "no controller runs")

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """The rows of a list, an empty one while no controller answers."""
        try:
            loaded = json.loads(self.vxctl(*arguments, "-o", "json"))
        except LabError:
            return []
        found: list[dict[str, Any]] = loaded["items"] if isinstance(loaded, dict) else loaded
        return found

    def stages(self, node: Node, device: str) -> list[str]:
        """What a node's worker did with a device, in order."""
        rows = self.rows("audit", "--node", node.name, "--all")
        return [
            row["stage"]
            for row in reversed(rows)
            if row["name"] == device and row["stage"] in DEVICE_STAGES
        ]

    def verified(self) -> bool:
        """Whether `vxctl audit verify` finds the audit trail unchanged; its exit status says so."""
        try:
            self.vxctl("audit", "verify")
        except LabError:
            return False
        return True

    def well(self) -> bool:
        """Whether `vxctl status` says that all is well."""
        try:
            return self.vxctl("status").startswith("All is well")
        except LabError:
            return False

    def said(self) -> str:
        """What the services said last, for a person who looks at a failure."""
        services = self.docker(
            "service", "ls", "--filter", f"label={LABEL}", "--format", "{{.Name}}"
        )
        logs = [
            subprocess.run(
                ["docker", "service", "logs", "--tail", "8", name],
                env=self.environment(None),
                capture_output=True,
                text=True,
                timeout=_EXEC_SECONDS,
                check=False,
            ).stdout
            for name in services.split()
        ]
        return "\n".join([self.docker("stack", "ps", "--no-trunc", STACK), *logs])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.script("uninstall")
