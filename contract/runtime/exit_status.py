"""The exit statuses of `vxctl` and `vxlan-worker`: the one table that both programs keep to."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended. Scripts rely on the numbers; docs/cli.md shows the same table."""

    DONE = 0
    """Done; or the answer is yes: all is well, it is the same, it is ready.

    Also where the reader of the output has seen enough, as in `vxctl get nodes | head -1`.
    """

    ERROR = 1
    """An error: the controller does not answer, the name is unknown, it was refused, it failed."""

    USAGE = 2
    """Wrong usage: an argument, an option, an environment variable, or a package that is missing."""

    NO = 3
    """The answer is no: it differs, is not ready, the chain is broken, a wait timed out, orphans are left."""

    RESTART = 75
    """Start it again (EX_TEMPFAIL of sysexits.h): a new process may succeed where this one did not."""

    INTERRUPTED = 130
    """Ended by Ctrl-C (128 + SIGINT), also where only Ctrl-C ends it, as with `--watch` and `--follow`."""
