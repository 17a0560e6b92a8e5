"""`OutageFilter`: what Celery logs about a broker that is away, once a minute and without tracebacks."""

import logging
import time
from collections.abc import Callable
from typing import Final

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from contract.runtime.text import redacted

LOG_SECONDS: Final = 60.0
_LOGGERS: Final = ("celery", "kombu", "contract.runtime.consumer")
_MAX_TEXTS: Final = 200


class OutageFilter(logging.Filter):
    """Lets records of Celery and of our consumer with the same text pass once a minute.

    A Redis that became a replica made 430 MB of tracebacks a day.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; the traceback of an error of the broker is taken off."""
        if not record.name.startswith(_LOGGERS) or record.levelno < logging.WARNING:
            return True
        text = record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg
        key = record.name, str(text)[:200]
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RedisError | KombuError | OSError):
            record.exc_info = record.exc_text = None
            if isinstance(record.msg, str):
                record.msg = f"{record.getMessage()}: {redacted(str(error))}"
                record.args = None
        now = self._clock()
        if now - self._logged.get(key, -LOG_SECONDS) < LOG_SECONDS:
            return False
        if len(self._logged) >= _MAX_TEXTS:
            self._logged.clear()
        self._logged[key] = now
        return True
