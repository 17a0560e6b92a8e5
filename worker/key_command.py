"""`vxlan-worker key`: shows this node's key and whom its worker believes, or makes its next key."""

import argparse
import sys
from pathlib import Path

from pydantic import Field

from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from contract.runtime.key_file import read_key
from contract.runtime.settings import Settings
from contract.signing.keys import PublicKey
from worker.journal_path import BY_DEFAULT, given_journal, journal_path
from worker.options import Parser
from worker.trust import Paths, read_trust, rotate


class KeySettings(Settings):
    """The settings of `vxlan-worker run` that say where the keys are."""

    journal: Path = Field(BY_DEFAULT, description="the worker's journal; the keys are beside it")


def parser() -> Parser:
    """Make the parser of the options."""
    options = Parser(
        prog="vxlan-worker key",
        description="Show this node's key and the controllers' keys that its worker believes (show), or "
        "make this node's next key (rotate).",
    )
    options.add_argument("action", choices=("show", "rotate"), nargs="?", default="show")
    options.add_settings(KeySettings)
    return options


def key(options: argparse.Namespace) -> ExitStatus:
    """Do it, and print the keys; raises OperatorError."""
    settings = KeySettings.load({"journal": options.journal})
    paths = Paths(journal_path(given_journal(settings)))
    if options.action == "rotate":
        made = rotate(paths)
        _print("next key", made.public)
        sys.stdout.write(
            "restart the worker: its Hello is signed by both keys, and the controllers take the new one "
            "(within ten minutes of another rotation, once these are over)\n"
        )
        return ExitStatus.DONE
    found = read_key(paths.key)
    if found is None:
        raise OperatorError(
            f"there is no key {paths.key} yet", "start the worker first: vxlan-worker run"
        )
    _print("node", found.public)
    if previous := read_key(paths.previous):
        _print("previous", previous.public)
    for text in read_trust(paths).controllers:
        _print("controllers", PublicKey.from_text(text))
    return ExitStatus.DONE


def _print(what: str, public: PublicKey) -> None:
    sys.stdout.write(f"{what:12}{public.id}  {public.text}\n")
