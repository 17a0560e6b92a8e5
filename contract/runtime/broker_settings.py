"""Settings of the broker: its URL, TLS that is always verified, and Redis Sentinel."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from contract.runtime.client_tls import check_files
from contract.runtime.errors import UsageError
from contract.runtime.settings import Settings, file_of

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
        acl: whether each node has a user of its own.
    """

    url: str
    tls: dict[str, Any] | None = None
    sentinel: dict[str, Any] = field(default_factory=dict)
    acl: bool = False

    @property
    def user(self) -> str | None:
        """Whom the URL logs in; None: Redis' user `default`, or nobody."""
        return unquote(urlsplit(self.url.partition(";")[0]).username or "") or None

    def of(self, user: str, password: str) -> "Broker":
        """Return the same broker with the login of another user."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        parts = (part.partition("://") for part in self.url.split(";"))
        # A checked URL has one @ at most.
        url = ";".join(f"{scheme}://{login}@{rest.rpartition('@')[2]}" for scheme, _, rest in parts)
        return replace(self, url=url)


def _database(url: str) -> str:
    """Return the number of Redis' database in a URL, as kombu finds it; "": none is named."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return parse_qs(parts.query).get("virtual_host", [""])[-1]
    return parts.path.strip("/")


class BrokerSettings(Settings):
    """Settings of every program that has a broker."""

    broker_url: BrokerUrl = SecretStr("redis://127.0.0.1:6379/0")
    broker_url_file: str = file_of("broker_url", "the URL of Redis")
    broker_ca: str = Field(
        "",
        description="PEM file of the CAs that may have signed Redis' certificate; none: those of the system",
    )
    broker_cert: str = Field("", description="PEM file of this program's certificate for Redis")
    broker_key: str = Field("", description="PEM file of that certificate's key")
    broker_acl: Literal["false", "true"] = Field(
        "false",
        description="true: each node has a user of its own at Redis, which the leader keeps; a worker needs "
        "the URL's user until it has that",
    )
    broker_sentinel_master: str = Field(
        "", description="name of the master, for sentinel://HOST:26379;sentinel://HOST:26379"
    )
    broker_sentinel_password: SecretStr = Field(
        SecretStr(""), description="password of the Sentinels themselves, if they have one"
    )
    broker_sentinel_password_file: str = file_of(
        "broker_sentinel_password", "the password of the Sentinels"
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
        acl = self.broker_acl == "true"
        if acl and any(_database(part) not in ("", "0") for part in url.split(";")):
            raise UsageError(
                "with BROKER_ACL only database 0 of Redis can be used, and the broker's URL names another",
                "end VXLAN_OPERATOR_BROKER_URL with /0",
            )
        tls = self._tls() if files or url.startswith(_TLS) else None
        if not by_sentinel:
            return Broker(url, tls, acl=acl)
        of_sentinels: dict[str, Any] = {
            "socket_connect_timeout": 1,
            "socket_timeout": 1,
            **({} if tls is None else {"ssl": True, **tls}),
        }
        if password := self.broker_sentinel_password.get_secret_value():
            of_sentinels["password"] = password
        options = {"master_name": self.broker_sentinel_master, "sentinel_kwargs": of_sentinels}
        return Broker(url, tls, options, acl)

    def _tls(self) -> dict[str, Any]:
        check_files("the broker", "BROKER", self.broker_ca, self.broker_cert, self.broker_key)
        return {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": self.broker_ca or None,
            "ssl_certfile": self.broker_cert or None,
            "ssl_keyfile": self.broker_key or None,
        }
