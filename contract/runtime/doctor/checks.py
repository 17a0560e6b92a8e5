"""Checks that run side by side, each with a time-out, and their results as text or JSON."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from contract.runtime.exit_status import ExitStatus
from contract.runtime.text import printable

TIMEOUT_SECONDS: Final = 6.0
"""For all checks together: a hung server must not make the diagnosis hang."""


class Level(StrEnum):
    """How well something is."""

    OK = "ok"
    WARN = "warn"
    """It works, but not in full, or not for long."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found.

    Attributes:
        check: what was checked, in a word or two.
        message: what was found.
        hint: what to do; None: nothing.
    """

    check: str
    level: Level
    message: str
    hint: str | None = None


Check = Callable[[], Iterable[Result]]


def ok(check: str, message: str) -> Result:
    """A result that needs nothing."""
    return Result(check, Level.OK, message)


def warn(check: str, message: str, hint: str) -> Result:
    """A result that needs attention."""
    return Result(check, Level.WARN, message, hint)


def fail(check: str, message: str, hint: str) -> Result:
    """A result that needs a person."""
    return Result(check, Level.FAIL, message, hint)


def run(checks: Mapping[str, Check], timeout: float = TIMEOUT_SECONDS) -> list[Result]:
    """Run checks, by name, in threads; return their results in the given order.

    Args:
        timeout: seconds until a check that has not ended is given up, and reported as failed.
    """
    found: dict[str, list[Result]] = {name: [] for name in checks}
    ended: set[str] = set()

    def work(name: str, check: Check) -> None:
        try:
            for result in check():
                found[name].append(result)
        except Exception as error:  # noqa: BLE001 -- a diagnosis reports whatever goes wrong
            message = f"the check failed: {type(error).__name__}: {error}"
            found[name].append(fail(name, message, "report this, with the versions above"))
        ended.add(name)

    # Daemons: one that hangs ends with the process.
    threads = [
        threading.Thread(target=work, args=item, name=item[0], daemon=True)
        for item in checks.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    results: list[Result] = []
    for name in checks:
        hangs = name not in ended
        results += list(found[name])
        if hangs:
            message = f"no answer within {timeout:g} s: it hangs, or this machine is very busy"
            hint = "run it again; if this stays, look at its log, and restart it"
            results.append(fail(name, message, hint))
    return results


def show(results: Sequence[Result]) -> None:
    """Print results for a person."""
    width = max((len(result.check) for result in results), default=0)
    for result in results:
        text = f"{result.level.value:4}  {result.check:{width}}  {printable(result.message)}\n"
        sys.stdout.write(text)
        if result.hint is not None:
            sys.stdout.write(f"{'':4}  {'':{width}}  hint: {printable(result.hint)}\n")
    wrong = sum(result.level is not Level.OK for result in results)
    sys.stdout.write(
        f"\n{wrong} of {len(results)} need attention\n" if wrong else "\nall is well\n"
    )


def show_json(results: Sequence[Result]) -> None:
    """Print results for a program."""
    sys.stdout.write(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def status(results: Sequence[Result]) -> ExitStatus:
    """Return the exit status of a diagnosis."""
    return ExitStatus.DONE if all(r.level is Level.OK for r in results) else ExitStatus.NO
