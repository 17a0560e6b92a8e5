"""What a worker costs a node: memory, idle CPU, and whether either grows over 10,000 runs."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from contract.messages import ReconcileRequest
from contract.queues import CONTROLLER_QUEUE, RECONCILE_TASK
from contract.runtime.broker import celery_app, queue_for_node
from contract.verdicts import Mode
from tests.servers import RedisServer, await_true
from tests.signed import CONTROLLERS_KEY, request_text

NODE = "benchmark0000000000000000"
RUNS = 10_000
BATCH = 50
IDLE_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """What the kernel says of a process (man 5 proc)."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc", str(pid))

    def rss_megabytes(self) -> float:
        """Resident memory."""
        pages = int((self._proc / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def pss_megabytes(self) -> float:
        """Resident memory, of which what is shared with other processes counts in part."""
        for line in (self._proc / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("the kernel tells no Pss")

    def wakes(self) -> int:
        """How often its present threads have slept."""
        found = 0
        for thread in (self._proc / "task").iterdir():
            _, _, rest = (thread / "status").read_text().partition("\nvoluntary_ctxt_switches:")
            found += int(rest.split()[0])
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def counts(self) -> str:
        """Threads and open files."""
        return f"{self.threads()} threads, {self.open_files()} open files"

    def threads(self) -> int:
        """How many it has."""
        return len(list((self._proc / "task").iterdir()))

    def open_files(self) -> int:
        """Its descriptors."""
        return len(list((self._proc / "fd").iterdir()))


def main() -> None:
    """Measure, and print."""
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-footprint-") as folder,
        RedisServer(Path(folder)) as redis,
    ):
        # unshare becomes the worker (exec), so its pid is the worker's.
        worker = subprocess.Popen(
            ["unshare", "--net", "--", "setpriv", "--pdeathsig", "KILL", "--",
             str(Path(sys.executable).parent / "vxlan-worker"), "run", "--node-id", NODE,
             "--broker-url", redis.url, "--journal", f"{folder}/journal.jsonl",
             "--controller-key", CONTROLLERS_KEY.public.text, "--log-level", "error"],
        )  # fmt: skip
        try:
            _measure(redis, Process(worker.pid))
        finally:
            worker.terminate()
            worker.wait(20)


def _measure(redis: RedisServer, process: Process) -> None:
    app = celery_app("benchmark", redis.url)
    client = redis.client()

    def run(times: int) -> None:
        for _ in range(times):
            now = datetime.now(UTC)
            request = ReconcileRequest(
                run_id=uuid4(),
                node_id=NODE,
                generation=1,
                issued_at=now,
                deadline=now + timedelta(minutes=5),
                mode=Mode.ENFORCE,
                data_path_port=4789,
                desired=(),
                fence=0,
                max_removals=100,
                next_within=3600.0,
            )
            app.send_task(RECONCILE_TASK, args=[request_text(request)], queue=queue_for_node(NODE))
        await_true(lambda: client.llen(CONTROLLER_QUEUE) >= times, f"{times} reports", 120.0)
        client.delete(CONTROLLER_QUEUE)

    run(1)
    print(f"idle worker: {process.rss_megabytes():.1f} MB resident, {process.counts()}")
    before = process.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    used = process.cpu_seconds() - before
    print(f"idle CPU: {used / IDLE_SECONDS:.2%} of a core, over {IDLE_SECONDS:g} s")
    begin = time.monotonic()
    for number in range(RUNS // BATCH):
        run(BATCH)
        if number in (19, RUNS // BATCH - 1):
            print(
                f"after {(number + 1) * BATCH} runs: {process.rss_megabytes():.1f} MB resident, "
                f"{process.counts()}"
            )
    print(f"{RUNS / (time.monotonic() - begin):.0f} runs a second, sent one by one")


if __name__ == "__main__":
    main()
