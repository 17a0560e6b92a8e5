"""The command `vxctl`, one module per verb group; `main` is the entry point.

`commands` has the tree of `verbs`: `serve`, `status`, `get` (`live` follows lists), `describe`, `explain`,
`events`, `suppressed`, `tree`, `diff`, `wait`, `version`, `doctor`, `completion`, `requeue`, `safety`,
`audit`, `chain`, `notify`, `token`, `node_keys`, `join_token`, `keys`, `broker`, `stack` (by `authority`),
`login`, `config` and `db`. They share `options`, those that `common` adds, `period`, the `contexts`, the
`connection` and the `client`, and print by `output`.

Imports lazily: a verb's module is imported when the verb is used, and what it needs with it.
"""

import os
import sys

from contract.runtime.errors import OperatorError, UsageError, print_error
from contract.runtime.exit_status import ExitStatus


def main() -> None:
    """Entry point of the command."""
    try:
        sys.exit(_run())
    except OperatorError as error:
        print_error(error)
        sys.exit(error.status)
    except KeyboardInterrupt:  # Also while modules are imported.
        sys.exit(ExitStatus.INTERRUPTED)


def _run() -> int:
    if "_VXCTL_COMPLETE" in os.environ:
        from controller.cli.completion import answer

        answer(sys.argv[1:] or [""])
        return ExitStatus.DONE
    try:
        from typer import TyperException
    except ImportError as error:
        raise _missing(error) from error
    try:
        from controller.cli.commands import app

        # This mode leaves usage errors to us; typer handles Ctrl-C.
        status: int | None = app(prog_name="vxctl", standalone_mode=False)
        sys.stdout.flush()
    except ModuleNotFoundError as error:  # A verb's module imports what the verb needs.
        raise _missing(error) from error
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
        RecursionError,
    ) as error:
        from controller.cli import client

        if not client.has_answered():
            raise
        raise client.not_understood(f"{type(error).__name__} {error}{_where(error)}") from error
    except TyperException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        if not message:  # The help of a group was printed.
            return ExitStatus.USAGE
        context = getattr(error, "ctx", None)
        hint = f"see `{context.command_path if context else 'vxctl'} --help`"
        raise UsageError(message[0].lower() + message[1:], hint) from error
    except (BrokenPipeError, SystemExit) as end:
        # typer ends so itself, if it was a verb that met the closed pipe.
        if not isinstance(end, BrokenPipeError) and not isinstance(
            end.__context__, BrokenPipeError
        ):
            raise
        # What is left in the buffer has no reader: it must not be an error when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    return status or ExitStatus.DONE


def _where(error: BaseException) -> str:
    """Return where an error was raised, for a report of it: ` (in _row, line 70)`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" (in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno})"


def _missing(error: ImportError) -> UsageError:
    return UsageError(str(error), "pip install 'vxlan-operator[controller]'")
