"""Bounds the arenas in which glibc's malloc keeps what threads have freed."""

import ctypes
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8
"""Of malloc.h."""
ARENAS: Final = 2
"""glibc's own bound is eight for each core: thirty threads fill them one after another, for hours."""


def bound_arenas() -> None:
    """Let all threads share `ARENAS`; to be called before they start. Another libc has none."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
