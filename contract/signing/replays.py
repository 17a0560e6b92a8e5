"""`Replays`: each message once, with a bounded memory that survives any clock.

For each key it keeps the newest messages' nonces. When it has to forget one, it takes the oldest, and from
then on refuses whatever was issued no later: so nothing comes a second time. Only a clock that was minutes
ahead and was put right makes it forget that bound: what it forgot before is then refused by its end alone.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, Field

from contract.signing.refusals import Reason, RefusedError

Microseconds = Annotated[int, Field(ge=0, lt=2**53)]
"""Since 1970, UTC."""

WINDOW: Final = 64
"""Messages of one key that may overtake each other."""


class Window(BaseModel):
    """What is remembered of one key; can be stored."""

    floor: Microseconds | None = None
    """Messages issued no later are refused."""
    seen: dict[str, Microseconds] = {}
    """Nonces, with the times at which their messages were issued."""


class Replays:
    """Remembers the messages of each key. Not thread-safe.

    Args:
        size: nonces kept a key; at least 1.
        stored: `state` of an earlier process.
    """

    def __init__(self, size: int = WINDOW, stored: Mapping[str, Window] | None = None) -> None:
        self._size = size
        self._windows = {
            kid: window.model_copy(deep=True) for kid, window in (stored or {}).items()
        }

    def check(self, kid: str, nonce: str, issued: int, latest: int) -> None:
        """Refuse a message that came before, or may have; remembers nothing of it.

        Args:
            latest: the newest date that any message can have now. What was forgotten until a later one was
                taken by a clock that was ahead: by it all messages would be refused, until that time comes.

        Raises:
            RefusedError: with the reason REPLAYED.
        """
        window = self._windows.get(kid)
        if window is None:
            return
        if nonce in window.seen:
            raise RefusedError(Reason.REPLAYED, "it came before", kid)
        if window.floor is not None and window.floor > latest:
            window.floor = None
        if window.floor is not None and issued <= window.floor:
            older = "it is older than messages that are no longer remembered one by one"
            raise RefusedError(Reason.REPLAYED, older, kid)

    def add(self, kid: str, nonce: str, issued: int) -> None:
        """Remember a message that was opened."""
        window = self._windows.setdefault(kid, Window())
        window.seen[nonce] = issued
        while len(window.seen) > self._size:
            oldest = min(window.seen, key=window.seen.__getitem__)
            window.floor = max(window.floor or 0, window.seen.pop(oldest))

    def keep(self, kids: set[str]) -> None:
        """Forget all keys but these."""
        self._windows = {kid: window for kid, window in self._windows.items() if kid in kids}

    def state(self) -> dict[str, Window]:
        """Return what is remembered by key; it is not copied, so store it at once."""
        return dict(self._windows)
