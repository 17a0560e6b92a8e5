"""What signatures cost: sealing and opening messages, and a worker's file of what it heard."""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from contract.messages import MAX_DEVICES, Hello
from contract.queues import HELLO_TASK, REPORT_TASK
from contract.signing.envelope import CONTROLLERS, KnownKey, Opener, node_address
from contract.signing.replays import Replays
from contract.verdicts import Verdict
from tests import reports
from tests.builders import NODE
from tests.fake_swarm import swarm_id
from tests.signed import key_of, worker
from worker.memory import NONCES, Memory


def main() -> None:
    """Measure, and print."""
    hello = Hello(node_id=NODE, worker_version="1", at=datetime.now(UTC), reason="started")
    _both("a Hello", HELLO_TASK, hello, 2_000)
    for count, times in ((5, 1_000), (MAX_DEVICES, 5)):
        devices = [reports.device(number + 1, Verdict.IN_USE) for number in range(count)]
        report = reports.report(devices=devices)
        _both(f"a report of {count} devices", REPORT_TASK, report, times)
    with tempfile.TemporaryDirectory(prefix="vxlan-operator-signing-") as folder:
        memory = Memory.open(Path(folder) / "heard.json")
        for number in range(NONCES):
            memory.replays.add(key_of("x").public.id, f"{number:022}", number)
        now = datetime.now(UTC)
        print(
            f"a worker's heard.json, full: {_each(lambda: memory.ran(1, now, now), 1_000):.0f} us"
        )


def _both(name: str, task: str, message: BaseModel, times: int) -> None:
    node_id = NODE if isinstance(message, Hello) else swarm_id("one")
    signer, key = worker(node_id), key_of(node_id).public
    known = {key.id: KnownKey(key, node_address(node_id))}
    opener = Opener(me=CONTROLLERS, lookup=known.get, replays=Replays())
    payload = message.model_dump_json()

    def seal() -> str:
        return signer.seal(payload, audience=CONTROLLERS, task=task)

    sealed: Iterator[str] = iter([seal() for _ in range(times)])
    model: type[BaseModel] = type(message)
    sealing = _each(seal, times)
    opening = _each(lambda: opener.open(next(sealed), task, model), times)
    parsing = _each(lambda: model.model_validate_json(payload), times)
    print(
        f"{name} ({len(payload)} bytes): sealed in {sealing:.0f} us, opened in {opening:.0f} us, of which "
        f"{parsing:.0f} are parsing"
    )


def _each(action: Callable[[], object], times: int) -> float:
    """Microseconds of this process's CPU for one of so many."""
    begin = time.process_time()
    for _ in range(times):
        action()
    return (time.process_time() - begin) / times * 1e6


if __name__ == "__main__":
    main()
