"""The command `vxlan-worker`. Imports lazily: a wrong option is answered at once."""

import sys

from contract.runtime.errors import OperatorError, print_error

_USAGE = """\
usage: vxlan-worker run [OPTIONS]     serve this node until stopped
       vxlan-worker scan [OPTIONS]    look at this node once; --fix removes orphans
       vxlan-worker --version

More about each: vxlan-worker run --help, vxlan-worker scan --help
"""


def main() -> None:
    """Entry point of the command."""
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    from contract import VERSION

    match arguments:
        case ["run", *options]:
            try:
                from worker.run import run
                from worker.settings import WorkerSettings

                run(WorkerSettings.load(options))
            except OperatorError as error:
                print_error(error)
                return 2
            except ImportError as error:
                print_error(OperatorError(str(error), "pip install 'vxlan-operator[worker]'"))
                return 2
            return 0
        case ["scan", *options]:
            from worker.scan import CANNOT_LOOK, parser, scan

            try:
                return scan(parser().parse_args(options))
            except OperatorError as error:
                print_error(error)
                return CANNOT_LOOK
        case ["--version"]:
            sys.stdout.write(f"vxlan-worker {VERSION}\n")
            return 0
        case ["-h" | "--help"]:
            sys.stdout.write(_USAGE)
            return 0
        case _:
            sys.stderr.write(_USAGE)
            return 2
