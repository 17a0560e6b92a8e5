"""The settings of `vxlan-worker run`."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from contract.runtime.broker_settings import BrokerSettings
from contract.runtime.errors import UsageError
from contract.runtime.settings import ONLY_VARIABLE, LogFormat, LogLevel, RemovalSettings
from contract.runtime.startup import WaitAtStart
from contract.signing.join import JoinToken
from contract.signing.keys import PublicKey
from worker.metrics_server import checked_listen

_MAX_TOKEN_BYTES: Final = 1000


class WorkerSettings(RemovalSettings, BrokerSettings):
    """Settings of `vxlan-worker run`."""

    node_id: Annotated[str, StringConstraints(pattern=r"^([0-9a-z]{25})?$")] = Field(
        "",
        description="Swarm id of this node; by default, dockerd is asked, and the id is followed",
    )
    docker_socket: Path = Field(
        Path("/var/run/docker.sock"),
        description="dockerd's API on this node, asked for the node's Swarm id alone; may be missing",
    )
    join_token_file: str = Field(
        "",
        description="file with the join token (`vxctl node join-token create`), needed at the first start",
    )
    join_token: SecretStr = Field(
        SecretStr(""),
        description="the join token itself, where there is no file",
        json_schema_extra=ONLY_VARIABLE,
    )
    controller_key: str = Field(
        "",
        description="the controllers' public key (`vxctl keys`) instead of a join token: then a person has "
        "to vouch for this node's (`vxctl node trust`)",
    )
    data_path_port: int = Field(
        0,
        ge=0,
        lt=2**16,
        description="the Swarm's UDP port; by default 4789, or what devices of containers show",
    )
    mode: Literal["observe", "enforce"] = Field(
        "enforce", description="observe: judge and report only, whatever the controller's mode"
    )
    max_removals_per_run: int = Field(
        100, ge=1, le=10_000, description="maximum number of removals in one run"
    )
    silence_seconds: float = Field(
        60.0, ge=1, le=3600, description="seconds without a request before the broker is tested"
    )
    alive_file: str = Field(
        "",
        description="file that is written every five seconds, with the loops that have stalled: for the "
        "health check of the image",
    )
    metrics_listen: Annotated[str, AfterValidator(checked_listen)] = Field(
        "",
        description="PORT (on loopback), ADDRESS:PORT, or path of a socket for Prometheus's metrics, "
        "without a token; none: they are not served",
    )
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    wait_at_start: WaitAtStart = "auto"

    def keys(self) -> tuple[JoinToken | None, PublicKey | None]:
        """Return the join token, and the key of the controllers, as far as either is given.

        A token's file that is missing gives none.

        Raises:
            UsageError: one is none, or both name different keys.
        """
        token = self._token()
        if not self.controller_key:
            return token, None if token is None else token.controllers
        try:
            key = PublicKey.from_text(self.controller_key)
        except ValueError as error:
            raise UsageError(
                f"controller_key: {error}",
                "set VXLAN_OPERATOR_CONTROLLER_KEY (or --controller-key) to what `vxctl keys` shows",
            ) from None
        if token is not None and token.controllers != key:
            raise UsageError(
                "the join token and VXLAN_OPERATOR_CONTROLLER_KEY name different keys of the controllers",
                "unset VXLAN_OPERATOR_CONTROLLER_KEY (or --controller-key)",
            )
        return token, key

    def _token(self) -> JoinToken | None:
        text = self.join_token.get_secret_value()
        if self.join_token_file:
            try:
                with Path(self.join_token_file).open("rb") as file:
                    text = file.read(_MAX_TOKEN_BYTES).decode("utf-8", "replace")
            except FileNotFoundError:
                # A node that has joined needs the token no more, and may start without.
                pass
            except OSError as error:
                raise UsageError(
                    f"the join token's file {self.join_token_file} cannot be read: {error.strerror}",
                    "set VXLAN_OPERATOR_JOIN_TOKEN_FILE (or --join-token-file) to a file with a join token",
                ) from error
        if not text.strip():
            return None
        try:
            return JoinToken.parse(text.strip())
        except ValueError as error:
            raise UsageError(
                f"the join token cannot be used: {error}",
                "`vxctl node join-token create` prints a new one",
            ) from None
