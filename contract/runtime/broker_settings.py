"""Settings of the broker: its URL, TLS that is always verified, and Redis Sentinel."""

import ssl
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from contract.runtime.errors import UsageError
from contract.runtime.settings import Settings

_PLAIN: Final = ("redis://", "redis+socket://")
_TLS: Final = "rediss://"
_SENTINEL: Final = "sentinel://"
_REFUSED: Final = {
    "amqp": "AMQP (RabbitMQ) is not supported, as it drops messages to queues that nobody has declared yet",
    "amqps": "AMQP (RabbitMQ) is not supported, as it drops messages to queues that nobody has declared yet",
    "redis+cluster": "Redis Cluster is not supported, as kombu has no transport for it: use Sentinel",
    "rediscluster": "Redis Cluster is not supported, as kombu has no transport for it: use Sentinel",
}


def _checked(url: SecretStr) -> SecretStr:
    """Check a URL; the errors quote nothing of it, for any part may belong to a password."""
    text = url.get_secret_value()
    scheme = text.partition("://")[0]
    if scheme in _REFUSED:
        raise ValueError(_REFUSED[scheme])
    if not text.startswith((*_PLAIN, _TLS, _SENTINEL)):
        raise ValueError("must begin with redis://, rediss://, sentinel:// or redis+socket://")
    for part in text.split(";"):
        _check_part(part)
    return url


def _check_part(url: str) -> None:
    rest = url.partition("://")[2]
    authority = rest
    for mark in "/?#":
        authority = authority.partition(mark)[0]
    if "#" in rest or authority.count("@") > 1 or "@" in rest[len(authority) :].partition("?")[0]:
        raise ValueError("a password with @, /, # or ? must be quoted: %40, %2F, %23, %3F")
    query = rest.partition("?")[2].lower()
    if "password" in query or "username" in query or "@" in query:
        raise ValueError(
            "user and password stand before the host: redis://USER:PASSWORD@HOST:6379/0"
        )
    if "ssl" in query:
        raise ValueError("TLS is set by BROKER_CA, BROKER_CERT and BROKER_KEY, not in the URL")
    try:
        urlsplit(url).port  # noqa: B018 -- raises for one that is no number
    except ValueError:
        raise ValueError(
            "its port is not a number (is a character of the password unquoted?)"
        ) from None


BrokerUrl = Annotated[
    SecretStr,
    AfterValidator(_checked),
    Field(description="Redis of the operator: redis://, rediss://, sentinel:// or redis+socket://"),
]


@dataclass(frozen=True, slots=True)
class Broker:
    """How to reach the broker.

    Attributes:
        url: for kombu.
        tls: keyword arguments of a TLS connection of the Redis client; None: no TLS.
        sentinel: kombu's options for Sentinel.
    """

    url: str
    tls: dict[str, Any] | None = None
    sentinel: dict[str, Any] = field(default_factory=dict)


class BrokerSettings(Settings):
    """Settings of every program that has a broker."""

    broker_url: BrokerUrl = SecretStr("redis://127.0.0.1:6379/0")
    broker_ca: str = Field(
        "",
        description="PEM file of the CAs that may have signed Redis' certificate; none: those of the system",
    )
    broker_cert: str = Field("", description="PEM file of this program's certificate for Redis")
    broker_key: str = Field("", description="PEM file of that certificate's key")
    broker_sentinel_master: str = Field(
        "", description="name of the master, for sentinel://HOST:26379;sentinel://HOST:26379"
    )
    broker_sentinel_password: SecretStr = Field(
        SecretStr(""), description="password of the Sentinels themselves, if they have one"
    )

    def broker(self) -> Broker:
        """Return the broker of these settings.

        Raises:
            UsageError: they contradict each other, or a file cannot be used.
        """
        url = self.broker_url.get_secret_value()
        by_sentinel = url.startswith(_SENTINEL)
        files = self.broker_ca or self.broker_cert or self.broker_key
        if files and not by_sentinel and not url.startswith(_TLS):
            raise UsageError(
                "certificates are given for a broker without TLS",
                "write VXLAN_OPERATOR_BROKER_URL with rediss:// instead of redis://",
            )
        if by_sentinel != bool(self.broker_sentinel_master):
            raise UsageError(
                "sentinel:// and the name of the master belong together",
                "set VXLAN_OPERATOR_BROKER_SENTINEL_MASTER to the name in `sentinel monitor NAME ...`, and "
                "VXLAN_OPERATOR_BROKER_URL to sentinel://HOST:26379;sentinel://HOST:26379",
            )
        tls = self._tls() if files or url.startswith(_TLS) else None
        if not by_sentinel:
            return Broker(url, tls)
        of_sentinels: dict[str, Any] = {
            "socket_connect_timeout": 1,
            "socket_timeout": 1,
            **({} if tls is None else {"ssl": True, **tls}),
        }
        if password := self.broker_sentinel_password.get_secret_value():
            of_sentinels["password"] = password
        options = {"master_name": self.broker_sentinel_master, "sentinel_kwargs": of_sentinels}
        return Broker(url, tls, options)

    def _tls(self) -> dict[str, Any]:
        try:
            context = ssl.create_default_context(cafile=self.broker_ca or None)
            if self.broker_cert or self.broker_key:
                # Without a question on the terminal for a key with a passphrase.
                context.load_cert_chain(self.broker_cert, self.broker_key or None, password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise UsageError(
                f"the certificates for the broker cannot be used: {error}",
                "set VXLAN_OPERATOR_BROKER_CA, VXLAN_OPERATOR_BROKER_CERT and VXLAN_OPERATOR_BROKER_KEY to "
                "PEM files that this user may read",
            ) from None
        return {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": self.broker_ca or None,
            "ssl_certfile": self.broker_cert or None,
            "ssl_keyfile": self.broker_key or None,
        }
