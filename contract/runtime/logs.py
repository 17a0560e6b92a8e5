"""Log lines on standard error: text on a terminal, JSON otherwise, or as asked."""

import logging
import sys
from typing import Literal

import structlog

from contract.runtime.outages import OutageFilter
from contract.runtime.text import printable

_MULTILINE = ("exception", "stack")
_MAX_TEXT = 4000
"""Characters of a value in a log line; clients and servers choose some of them."""
_MAX_TRACEBACK = 20_000
_NOISY = ["celery", "kombu", "amqp", "docker", "urllib3", "httpx", "alembic", "uvicorn.access"]
"""Libraries that log every task and connection at INFO."""


def configure_logging(
    *, level: str = "info", form: Literal["auto", "text", "json"] = "auto"
) -> None:
    """Set up structlog with a minimum level, and route the standard library's log records through it.

    Args:
        form: `text` has colours on a terminal alone; auto: text on a terminal, JSON elsewhere.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        # The filter first: a line below the level costs next to nothing.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    on_terminal = sys.stderr.isatty()
    renderers: list[structlog.typing.Processor] = (
        [_made_printable, structlog.dev.ConsoleRenderer(colors=on_terminal)]
        if form == "text" or (form == "auto" and on_terminal)
        else [structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OutageFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_colours,
                _cut,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _without_colours(
    _logger: object, _method: str, event_dict: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Remove uvicorn's second copy of its messages, with escape codes."""
    event_dict.pop("color_message", None)
    return event_dict


def _cut(
    _logger: object, _method: str, event_dict: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Shorten long texts; of a traceback the end says most."""
    for key, value in event_dict.items():
        if isinstance(value, str):
            most = _MAX_TRACEBACK if key in _MULTILINE else _MAX_TEXT
            if len(value) > most:
                left_out = f" ... ({len(value) - most} characters left out) ... "
                event_dict[key] = value[: most // 2] + left_out + value[-(most // 2) :]
    return event_dict


def _made_printable(
    _logger: object, _method: str, event_dict: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """For the console's renderer, which shows most texts unchanged, and everything else by `repr`."""
    for key, value in event_dict.items():
        if isinstance(value, str):
            lines = value.split("\n") if key in _MULTILINE else [value]
            event_dict[key] = "\n".join(map(printable, lines))
    return {printable(key): value for key, value in event_dict.items()}
