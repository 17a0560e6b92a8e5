"""Command-line options by argparse: errors in two lines, and options from settings."""

import argparse
from typing import NoReturn

from contract.runtime.errors import UsageError
from contract.runtime.settings import Settings


class Parser(argparse.ArgumentParser):
    """A parser that reports a usage error as an `UsageError`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")

    def add_settings(self, settings: type[Settings]) -> None:
        """Add an option for each setting; the values are for `Settings.load`."""
        for option in settings.options():
            self.add_argument(option.flag, metavar=option.metavar, help=option.help)
