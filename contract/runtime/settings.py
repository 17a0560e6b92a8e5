"""Settings from the environment, with each also a command-line option, and errors a person can act on."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from contract.runtime.errors import OperatorError

PREFIX = "VXLAN_OPERATOR_"


def _redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "redis+socket://")):
        raise ValueError("must begin with redis://, rediss:// or redis+socket://")
    return url


BrokerUrl = Annotated[
    SecretStr,
    AfterValidator(_redis),
    Field(description="Redis of the operator: redis://, rediss:// or redis+socket://"),
]


UNCLAIMED_SECONDS: Final = 300.0
"""Minutes: a disk that holds dockerd up, or a machine that swaps, is done with a join long before."""

_MIN_UNCLAIMED_SECONDS: Final = 60.0


def minutes(seconds: float) -> float:
    """Check a time after which a device counts as unclaimed: a short one would take living devices.

    Raises:
        ValueError: it is neither 0 nor at least a minute.
    """
    if seconds != 0 and seconds < _MIN_UNCLAIMED_SECONDS:
        raise ValueError(f"must be 0 (never) or at least {_MIN_UNCLAIMED_SECONDS:g}")
    return seconds


class Settings(BaseSettings):
    """Base of the settings of each program; a field's description is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True
    )
    program: ClassVar[str]

    @classmethod
    def load(cls, arguments: Sequence[str]) -> Self:
        """Read the environment, and over it command-line options.

        Raises:
            OperatorError: a value is missing or wrong; names the variable and the option.
            SystemExit: the arguments asked for help, or have no meaning.
        """
        source = CliSettingsSource[Self](
            cls,
            cli_prog_name=cls.program,
            cli_parse_args=list(arguments),
            cli_kebab_case=True,
            cli_hide_none_type=True,
            cli_implicit_flags=True,
        )
        try:
            return cls(_cli_settings_source=source)
        except ValidationError as error:
            raise OperatorError(*cls._explained(error)) from None
        except SettingsError as error:
            raise OperatorError(str(error), "correct the environment or the options") from None

    @classmethod
    def _explained(cls, error: ValidationError) -> tuple[str, str]:
        """What is wrong with which settings, without the values of secret ones; and what to set."""
        problems = []
        names = []
        for each in error.errors(include_url=False):
            name = str(each["loc"][0]) if each["loc"] else "settings"
            names.append(f"{PREFIX}{name.upper()} (or --{name.replace('_', '-')})")
            field = cls.model_fields.get(name)
            secret = field is None or field.annotation is SecretStr
            shown = each["type"] != "missing" and not secret
            problems.append(
                f"{name}: {each['msg']}" + (f", got {each['input']!r}" if shown else "")
            )
        return "; ".join(problems), "set " + " and ".join(names)
