"""`Turn`: how many answers of one kind are worked on at a time, and how many requests may wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

RETRY_AFTER_SECONDS: Final = 5
"""Told to clients that are refused: an expensive answer takes some tenths of a second to some seconds."""


class BusyError(Exception):
    """Too many requests of this kind wait already, or this one waited in vain."""


class TooManyWatchersError(Exception):
    """No more clients can follow lists."""


class Turn:
    """A FastAPI dependency: the request waits until it is its turn, and keeps it until it is answered.

    Requests are served in the order of their arrival. Who waits holds no thread, so answers that are cheap
    never wait behind those that are expensive.

    Args:
        what: the answers, for the error message.
        at_once: number of requests that are answered at a time.
        waiting: number of requests that may wait for that.
        seconds: the longest wait.
    """

    def __init__(
        self, what: str, *, at_once: int = 1, waiting: int = 4, seconds: float = 10.0
    ) -> None:
        self._what = what
        self._free = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self._max_waiting = waiting
        self._seconds = seconds
        self._waiting = 0

    async def __call__(self) -> AsyncIterator[None]:
        """Wait, and give the turn back after the answer was sent; raise as `held` does."""
        async with self.held():
            yield

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Wait, and keep the turn inside.

        Raises:
            BusyError: the request is not answered now.
        """
        if self._free.locked() and self._waiting >= self._max_waiting:
            raise BusyError(
                f"{self._at_once} {self._what} at a time, and {self._waiting} wait already"
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(
                f"{self._at_once} {self._what} at a time, and those before took over {self._seconds:g} s"
            ) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class Turns:
    """The turns of an app.

    Attributes:
        lists: of nodes, networks, devices, runs and audit rows, and single ones.
        status: of the status.
        expensive: one for each kind of answer that takes long.
    """

    def __init__(self) -> None:
        # Database connections bound these numbers (`controller.db.engine`), and two cores.
        self.lists = Turn("lists", at_once=4, waiting=200)
        self.status = Turn("status answers", at_once=2, waiting=200)
        self.verify = Turn("verification")
        self.export = Turn("export")
        self.stats = Turn("count of removals")
        self.explain = Turn("explanation", waiting=16)
        self.notify = Turn("tests of notifications", at_once=2)
        self.metrics = Turn("scrape", waiting=16)
