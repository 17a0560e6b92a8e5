"""The verbs that start programs; their options are generated from the settings."""

import functools
import os
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Any, Final

import typer

from controller.process.settings import ControllerSettings, LocalSettings

_ONLY_FOR_ITS_USER: Final = 0o077
"""The umask: what these programs write (who removed what, and why) is private to their user."""


def _with_options(run: Callable[[Any], None]) -> Callable[..., None]:
    """Give a function that takes settings an option for each of them, in the signature typer reads."""
    settings = run.__annotations__["settings"]

    @functools.wraps(run)
    def verb(**given: str | None) -> None:
        os.umask(_ONLY_FOR_ITS_USER)
        run(settings.load(given))

    options = [
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
    verb.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return verb


@_with_options
def controller(settings: ControllerSettings) -> None:
    from controller.process.controller import run

    run(
        settings,
        settings.broker(),
        silence=settings.silence_seconds,
        join_token_file=settings.join_token_file,
    )


@_with_options
def up(settings: LocalSettings) -> None:
    from controller.process import all_in_one

    all_in_one.up(settings)
