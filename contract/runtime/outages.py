"""`OutageFilter`: what Celery logs about a broker that is away, once a minute and without tracebacks."""

import logging
import time
from collections.abc import Callable
from typing import Final

from contract.runtime.text import redacted
from contract.runtime.throttle import Throttle

LOG_SECONDS: Final = 60.0
_LOGGERS: Final = ("celery", "kombu", "contract.runtime.consumer")


class OutageFilter(logging.Filter):
    """Lets records of Celery and of our consumer with the same text pass once a minute.

    A Redis that became a replica made 430 MB of tracebacks a day.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._throttle = Throttle(LOG_SECONDS, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; the traceback of an error of the broker is taken off."""
        if not record.name.startswith(_LOGGERS) or record.levelno < logging.WARNING:
            return True
        text = record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg
        key = record.name, str(text)[:200]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _is_the_brokers(error):
            record.exc_info = record.exc_text = None
            if isinstance(record.msg, str):
                record.msg = f"{record.getMessage()}: {redacted(str(error))}"
                record.args = None
        return self._throttle.is_due(key)


def _is_the_brokers(error: BaseException) -> bool:
    """Whether it is an OSError or an error of Redis or kombu, which a scan does not import for that."""
    packages = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, OSError) or not packages.isdisjoint({"kombu", "redis"})
