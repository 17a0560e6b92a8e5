"""The verbs that start programs."""

import os
from typing import Final

import typer

# Their options are the settings, which bring their own help: see `vxctl controller --help`.
_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

_FOR_NOBODY_ELSE: Final = 0o077
"""The umask: what these programs write (who removed what, and why) is for their own user alone."""


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(context_settings=_PASS_ON)(controller)
    app.command(context_settings=_PASS_ON)(up)


def controller(context: typer.Context) -> None:
    """Run the controller."""
    from controller.process.controller import run
    from controller.process.settings import ControllerSettings

    settings = ControllerSettings.load(context.args)
    os.umask(_FOR_NOBODY_ELSE)
    run(settings, settings.broker_url.get_secret_value(), silence=settings.silence_seconds)


def up(context: typer.Context) -> None:
    """Run controller and worker of this machine in one process, with SQLite and without Redis."""
    from controller.process.all_in_one import up as run_both
    from controller.process.settings import LocalSettings

    settings = LocalSettings.load(context.args)
    os.umask(_FOR_NOBODY_ELSE)
    run_both(settings)
