"""The operator on a lab: Redis and the controller in the hub, a worker on every node, real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from contract.verdicts import DEVICE_STAGES
from tests import forked, logs
from tests.lab import Lab, LabError, Node
from tests.lab.entry import Entry
from tests.servers import await_true
from tests.tokens import ENVIRONMENT, HEADERS, give_file

_BIN = Path(sys.executable).parent
_REDIS_PORT = 6379
# Bounds, so that nothing hangs for ever; the machine may be busy with other labs.
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_LOOK_SECONDS = 60.0


class Program:
    """A program of the operator that can be stopped, killed and started again."""

    def __init__(self, name: str, where: Entry, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.command = list(command)
        self.log = folder / f"{name}.log"
        self._where = where
        self._process: subprocess.Popen[Any] | forked.Program | None = None

    def start(self, *, lasting: bool = False) -> None:
        """Start it; with `lasting` it lives as long as the lab, else as long as this process."""
        logs.STARTED[self.log] = None
        with self.log.open("ab") as log:
            if lasting:
                self._where.start_lasting(
                    self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
                return
            ours = Path(self.command[0]).name in forked.PROGRAMS
            if ours and self._where.network_file is not None:
                with Path(os.devnull).open("rb") as null:
                    files = (null.fileno(), log.fileno(), log.fileno())
                    self._process = forked.Program(
                        self.command, os.environ, files, [self._where.network_file]
                    )
                return
            self._process = self._where.popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        """Of a program that runs and does not last."""
        assert self._process is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal, without waiting for what comes of it."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, by SIGTERM or as in a crash by SIGKILL; return its exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            raise AssertionError(
                f"{self.name} did not end by {number.name}: {self.said()}"
            ) from None
        finally:
            self._process = None

    def kill(self) -> None:
        """End it as a crash does."""
        self.stop(signal.SIGKILL)

    def said(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Stack:
    """Redis, controller and workers on a lab, with logs, database and journals in one folder.

    Args:
        lab: where.
        folder: for logs, database and journals.
        grace: seconds of the grace period.
        lasting: whether the programs outlive this process, and end with the lab.
        controller_options, worker_options: more options of the two programs.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        *,
        grace: float = 5.0,
        lasting: bool = False,
        controller_options: Sequence[str] = (),
        worker_options: Sequence[str] = (),
    ) -> None:
        self.lab = lab
        self.folder = folder
        self._lasting = lasting
        self._cleanup = ExitStack()
        broker = f"redis://{lab.hub_address}:{_REDIS_PORT}/0"
        self.redis = Program(
            "redis", lab.hub,
            ["redis-server", "--bind", "0.0.0.0", "--port", str(_REDIS_PORT), "--save", "",
             "--protected-mode", "no", "--dir", str(folder)],
            folder,
        )  # fmt: skip
        self._join_token = folder / "join-token"
        self.controller = Program(
            "controller", lab.hub,
            [str(_BIN / "vxctl"), "controller", "--broker-url", broker,
             "--database-url", f"sqlite:///{folder / 'controller.db'}",
             "--api-token-file", str(give_file(folder)),
             "--signing-key", str(folder / "controller.key"),
             "--docker-host", lab.manager.docker_host, "--sync-seconds", "1", *controller_options],
            folder,
        )  # fmt: skip
        self.workers = {
            node.name: Program(
                f"worker-{node.name}", node.entry(),
                [str(_BIN / "vxlan-worker"), "run", "--broker-url", broker,
                 "--join-token-file", str(self._join_token),
                 "--node-id", node.swarm_id, "--grace-seconds", str(grace),
                 "--docker-socket", node.docker_host.removeprefix("unix://"),
                 "--journal", str(self.journal(node)), *worker_options],
                folder,
            )
            for node in lab.nodes
        }  # fmt: skip

    @property
    def programs(self) -> list[Program]:
        """In the order in which they are started."""
        return [self.redis, self.controller, *self.workers.values()]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self._lasting:
            self.stop()

    def start(self) -> None:
        """Start everything, and wait until every node has been looked at."""
        self.redis.start(lasting=self._lasting)
        await_true(self._redis_answers, "Redis answers")
        self.controller.start(lasting=self._lasting)
        self.ask("/api/v1/whoami")
        if not self._join_token.exists():
            self.vxctl("node", "join-token", "create", "--file", str(self._join_token))
        for program in self.workers.values():
            program.start(lasting=self._lasting)
        await_true(self.converged, "every node has been looked at", _START_SECONDS)

    def stop(self) -> None:
        """Stop everything; Redis last, for what is still to be said."""
        for program in self.programs[1:]:
            program.send(signal.SIGTERM)
        for program in reversed(self.programs):
            program.stop()

    def journal(self, node: Node) -> Path:
        """The journal of a node's worker, in a folder with its keys."""
        return self.folder / node.name / "journal.jsonl"

    def converged(self) -> bool:
        """Whether every node's desired state has been reached by a run."""
        nodes = self.items("/api/v1/nodes")
        return len(nodes) == len(self.lab.nodes) and all(
            node["converged_generation"] == node["generation"] for node in nodes
        )

    def items(self, path: str) -> list[dict[str, Any]]:
        """The rows of a list of the API."""
        rows: list[dict[str, Any]] = self.ask(path)["items"]
        return rows

    def ask(self, path: str) -> Any:
        """GET from the controller's API; waits while it does not answer."""
        address = "http://127.0.0.1:8479" + path
        header = next(f"{name}: {value}" for name, value in HEADERS.items())
        fetch = ["busybox", "wget", "-q", "-O", "-", "--header", header, address]
        answers = []

        def is_answered() -> bool:
            answer = self.lab.hub_run(fetch, check=False)
            if answer.returncode == 0:
                answers.append(json.loads(answer.stdout))
            return bool(answers)

        await_true(is_answered, f"the controller answers {path}", _START_SECONDS)
        return answers[0]

    def look_now(self, node: Node, reason: str) -> None:
        """Let a node be looked at, and wait for the end of a run that began after that."""
        wait = ("--wait", "--timeout", f"{_LOOK_SECONDS:g}s")
        self.vxctl("requeue", node.name, "--reason", reason, *wait, timeout=_LOOK_SECONDS + 20.0)

    def vxctl(self, *arguments: str, timeout: float = _LOOK_SECONDS) -> str:
        """What `vxctl` prints."""
        network = self.lab.hub.network_file
        assert network is not None
        done = forked.as_text(
            forked.run(arguments, os.environ | ENVIRONMENT, timeout, namespaces=[network])
        )
        # The status has an answer, too, when something is not as it should be.
        if done.returncode != 0 and arguments[0] != "status":
            raise LabError(f"vxctl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def audit(self, node: Node, device: str | None = None) -> list[dict[str, Any]]:
        """The audit rows of a node, the oldest first; of a device, by name, what its worker did with it."""
        rows = self.items(f"/api/v1/audit?limit=1000&node={node.name}")
        return [
            row
            for row in reversed(rows)
            if device is None or (row["name"] == device and row["stage"] in DEVICE_STAGES)
        ]

    def stages(self, node: Node, device: str) -> list[str]:
        """What a node's worker did with a device, in order."""
        return [row["stage"] for row in self.audit(node, device)]

    def _redis_answers(self) -> bool:
        if shutil.which("redis-cli") is None:
            raise LabError("redis-cli is missing: apt-get install redis-tools")
        answer = self.lab.hub_run(["redis-cli", "-p", str(_REDIS_PORT), "ping"], check=False)
        return answer.stdout == "PONG\n"
