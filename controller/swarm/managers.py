"""Which of the Swarm's managers is asked: one until it fails, then the next. Thread-safe."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from contract.runtime.dockerd import Docker

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """What follows from a manager's failure.

    Attributes:
        elsewhere: whether another one can be asked, of which no failure is known.
        problem: of this manager; if none is left, of all of them.
    """

    elsewhere: bool
    problem: str


class Managers:
    """The Docker APIs of one Swarm's managers, shared by all that ask them.

    The one in use stays in use until it fails, also when an earlier one is back.

    Args:
        dockers: at least one, in the order in which they are asked.
    """

    def __init__(self, dockers: Sequence[Docker]) -> None:
        self._dockers = tuple(dockers)
        self._lock = threading.Lock()
        self._current = self._dockers[0]
        self._problems: dict[Docker, str] = {}
        self.swarm_id: str | None = None
        """Of the Swarm that all must be of; None: not known yet."""

    @property
    def current(self) -> Docker:
        """The one that is asked."""
        return self._current

    @property
    def are_several(self) -> bool:
        """Whether there is a choice."""
        return len(self._dockers) > 1

    def others(self) -> Sequence[Docker]:
        """Return those that are not asked."""
        current = self._current
        return [docker for docker in self._dockers if docker != current]

    def away(self) -> str | None:
        """Return the problems of those that are not asked; None: there are none."""
        with self._lock:
            return "; ".join(self._known(self.others())) or None

    def answered(self, docker: Docker) -> None:
        """Note that a manager answers."""
        if docker not in self._problems:
            return
        with self._lock:
            self._problems.pop(docker, None)
        if self.are_several:
            log.info("a manager answers again", manager=docker.url)

    def failed(self, docker: Docker, problem: str) -> Failure:
        """Note why a manager cannot be used; if it is the one in use, go on to the next."""
        with self._lock:
            new = docker not in self._problems
            self._problems[docker] = problem
            at = self._dockers.index(docker)
            order = [*self._dockers[at + 1 :], *self._dockers[:at]]
            good = next((docker for docker in order if docker not in self._problems), None)
            if docker == self._current and order:
                self._current = good or order[0]
            known = self._known(self._dockers)
            current = self._current
        if new and order:
            log.warning("a manager is away", manager=docker.url, asked=current.url, error=problem)
        if good is not None:
            return Failure(True, problem)
        return Failure(False, f"no manager can be asked: {'; '.join(known)}" if order else problem)

    def _known(self, dockers: Sequence[Docker]) -> list[str]:
        return [self._problems[docker] for docker in dockers if docker in self._problems]
