"""The command `vxlan-worker`. Imports lazily: a wrong option is an error at once."""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from contract.runtime.errors import OperatorError, UsageError, print_error
from contract.runtime.exit_status import ExitStatus

if TYPE_CHECKING:
    from worker.options import Parser

_USAGE = """\
usage: vxlan-worker run [OPTIONS]     serve this node until stopped
       vxlan-worker scan [OPTIONS]    look at this node once; --fix removes orphans
       vxlan-worker doctor [OPTIONS]  check what the worker on this node needs
       vxlan-worker key [show|rotate] show this node's key, or make its next one
       vxlan-worker --version

Options: vxlan-worker run --help, and so on for scan, doctor and key
"""

_LOOKS: Final = ("run", "scan", "doctor")
"""Commands that look at the kernel."""


def main() -> None:
    """Entry point of the command."""
    try:
        sys.exit(_main(sys.argv[1:]))
    except OperatorError as error:
        print_error(error)
        sys.exit(error.status)
    except ImportError as error:
        print_error(_missing(error))
        sys.exit(ExitStatus.USAGE)
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)


def _missing(error: ImportError) -> UsageError:
    # Set by PyInstaller; the package's program has everything (packaging/bundle.spec).
    if hasattr(sys, "frozen") and find_spec("celery") is None:
        return UsageError(
            "this single file has `scan` alone: it is for a node with nothing installed",
            "install the package vxlan-operator-worker for the other commands",
        )
    return UsageError(str(error), "pip install 'vxlan-operator[worker]'")


def run_parser() -> "Parser":
    """Make the parser of the options of `vxlan-worker run`."""
    from worker.options import Parser
    from worker.settings import WorkerSettings

    parser = Parser("vxlan-worker run", description="Serve this node until stopped.")
    parser.add_settings(WorkerSettings)
    return parser


def _main(arguments: list[str]) -> int:
    from contract import VERSION

    if arguments[:1] and arguments[0] in _LOOKS:
        from worker.capabilities import raise_permitted

        raise_permitted()
    match arguments:
        case ["run", *options]:
            from worker.run import run
            from worker.settings import WorkerSettings

            run(WorkerSettings.load(vars(run_parser().parse_args(options))))
            return ExitStatus.DONE
        case ["scan", *options]:
            from worker import scan

            return scan.scan(scan.parser().parse_args(options))
        case ["doctor", *options]:
            from worker import doctor

            return doctor.doctor(doctor.parser().parse_args(options))
        case ["key", *options]:
            from worker import key_command

            return key_command.key(key_command.parser().parse_args(options))
        case ["--version"]:
            sys.stdout.write(f"vxlan-worker {VERSION}\n")
            return ExitStatus.DONE
        case ["-h" | "--help"]:
            sys.stdout.write(_USAGE)
            return ExitStatus.DONE
        case []:
            sys.stderr.write(_USAGE)
            return ExitStatus.USAGE
        case _:
            raise UsageError(f"no such command {arguments[0]!r}", "see `vxlan-worker --help`")
