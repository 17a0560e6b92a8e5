"""The verbs that start programs; their options are generated from the settings."""

import functools
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


def _options_of(settings: type[_S]) -> Callable[[Callable[[_S], None]], Callable[..., None]]:
    """Give a function that takes settings an option for each of them, in the signature typer reads."""
    parameters = [
        Parameter(
            option.name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None, typer.Option(option.flag, metavar=option.metavar, help=option.help)
            ],
        )
        for option in settings.options()
    ]

    def decorate(run: Callable[[_S], None]) -> Callable[..., None]:
        @functools.wraps(run)
        def verb(**given: str | None) -> None:
            os.umask(_ONLY_FOR_ITS_USER)
            run(settings.load(given))

        verb.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return verb

    return decorate


@_options_of(ControllerSettings)
def controller(settings: ControllerSettings) -> None:
    """Run the controller."""
    from controller.process.controller import run

    run(settings, settings.broker_url.get_secret_value(), silence=settings.silence_seconds)


@_options_of(LocalSettings)
def up(settings: LocalSettings) -> None:
    """Run controller and worker of this machine in one process, with SQLite and no Redis."""
    from controller.process import all_in_one

    all_in_one.up(settings)
