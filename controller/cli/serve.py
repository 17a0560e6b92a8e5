"""The verbs that start programs; their options are generated from the settings."""

import os
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Final, TypeVar

import typer

from contract.runtime.settings import Settings
from controller.process.settings import ControllerSettings, LocalSettings

_ONLY_FOR_ITS_USER: Final = 0o077
"""The umask: what these programs write (who removed what, and why) is private to their user."""

_S = TypeVar("_S", bound=Settings)


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("controller", help="Run the controller.")(_verb(ControllerSettings, _controller))
    app.command(
        "up",
        help="Run controller and worker of this machine in one process, with SQLite and no Redis.",
    )(_verb(LocalSettings, _up))


def _verb(settings: type[_S], run: Callable[[_S], None]) -> Callable[..., None]:
    """Return a function whose signature, which typer reads, has an option for each setting."""

    def verb(**given: str | None) -> None:
        os.umask(_ONLY_FOR_ITS_USER)
        run(settings.load(given))

    verb.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(
                option.name,
                Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    str | None,
                    typer.Option(option.flag, metavar=option.metavar, help=option.help),
                ],
            )
            for option in settings.options()
        ]
    )
    return verb


def _controller(settings: ControllerSettings) -> None:
    from controller.process.controller import run

    run(settings, settings.broker_url.get_secret_value(), silence=settings.silence_seconds)


def _up(settings: LocalSettings) -> None:
    from controller.process.all_in_one import up

    up(settings)
