"""Settings from command-line options, over the environment, over defaults; common settings."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.runtime.errors import UsageError
from contract.runtime.secret_file import read_secret
from contract.runtime.variables import PREFIX, refuse_unknown

_MIN_UNCLAIMED_SECONDS: Final = 60.0


def _unclaimed(seconds: float) -> float:
    """A shorter time would take living devices."""
    if seconds != 0 and seconds < _MIN_UNCLAIMED_SECONDS:
        raise ValueError(f"must be 0 (never) or at least {_MIN_UNCLAIMED_SECONDS:g}")
    return seconds


LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], Field(description="minimum level of log messages")
]
LogFormat = Annotated[
    Literal["auto", "text", "json"],
    Field(description="form of log lines; auto: text on a terminal, JSON elsewhere"),
]


ONLY_VARIABLE: Final[dict[str, Any]] = {"option": False}
"""`json_schema_extra` of a setting that is secret: an option would show it to everybody on the machine."""


def file_of(secret: str, what: str) -> Any:
    """Return the field of a setting that names a file with another, secret one.

    Args:
        secret: the other setting; the field must be called that and `_file`.
        what: what the file holds.
    """
    return Field(
        "",
        description=f"file with {what}, such as a secret of Docker's",
        json_schema_extra={"file_of": secret},
    )


class Option(NamedTuple):
    """A setting as a command-line option; the help has its variable and its default."""

    name: str
    flag: str
    metavar: str
    help: str


class Settings(BaseSettings):
    """Base of the settings of each program; a field's description is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True
    )

    @classmethod
    def options(cls) -> Iterator[Option]:
        """Yield the settings as command-line options, whose values `load` takes as text."""
        for name, field in cls.model_fields.items():
            if field.json_schema_extra == ONLY_VARIABLE:
                continue
            choices = get_args(field.annotation)
            metavar = name.partition("_per_")[0].rpartition("_")[2].upper()
            default = "required" if field.is_required() else f"default: {default_text(field)}"
            yield Option(
                name,
                _flag(name),
                "|".join(choices) or metavar,
                f"{field.description} ({_variable(name)}, {default})",
            )

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> Self:
        """Read the settings: the given options that are not None, the environment, the defaults.

        Raises:
            UsageError: a value is missing or wrong, a file with one cannot be read, or a variable is none of
                ours; names the variable and the option.
        """
        refuse_unknown()
        values = {name: value for name, value in given.items() if value is not None}
        values |= cls._from_files(values)
        try:
            return cls(**values)
        except ValidationError as error:
            problems, names = [], []
            for detail in error.errors(include_url=False):
                name = str(detail["loc"][0])
                option = cls.model_fields[name].json_schema_extra != ONLY_VARIABLE
                names.append(_variable(name) + (f" (or {_flag(name)})" if option else ""))
                hidden = (
                    cls.model_fields[name].annotation is SecretStr or detail["type"] == "missing"
                )
                got = "" if hidden else f", got {detail['input']!r}"
                problems.append(f"{name}: {detail['msg']}{got}")
            raise UsageError("; ".join(problems), "set " + " and ".join(names)) from None

    @classmethod
    def _from_files(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Read the secret settings that a file is named for.

        Raises:
            UsageError: a file cannot be read, or the setting is there, too.
        """
        variables = {name.upper(): value for name, value in os.environ.items() if value}
        found = {}
        for name, field in cls.model_fields.items():
            if not isinstance(field.json_schema_extra, dict):
                continue
            secret = field.json_schema_extra.get("file_of")
            file = options.get(name) or variables.get(_variable(name))
            if not isinstance(secret, str) or not file or options.get(secret):
                continue
            if name not in options and _variable(secret) in variables:
                raise UsageError(
                    f"both {_variable(secret)} and {_variable(name)} are set",
                    f"unset {_variable(secret)}",
                )
            found[secret] = read_secret(str(file), f"{_variable(name)} (or {_flag(name)})")
        return found


class RemovalSettings(Settings):
    """Settings of a worker that `vxctl up` has too."""

    journal: Path = Field(
        Path("/var/lib/vxlan-operator/journal.jsonl"),
        description="file that records every removal before it is made",
    )
    grace_seconds: float = Field(
        5.0,
        ge=0.2,
        le=3600,
        description="seconds for which a device of an unwanted network must have been idle",
    )
    # The default: a disk that holds dockerd up, or a machine that swaps, is done with a join long before.
    unclaimed_seconds: Annotated[float, AfterValidator(_unclaimed)] = Field(
        300.0,
        le=86_400,
        description="seconds for which a device of a wanted network must have been unclaimed, if no "
        "task was rejected; at least 60, or 0: never remove it for that",
    )


def default_text(field: FieldInfo) -> str:
    """Return a setting's default as a person writes it; `none` for an empty one."""
    default = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
