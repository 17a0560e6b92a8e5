"""The certificate and key of the HTTP API, which are read again when their files change."""

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

from contract.runtime.errors import OperatorError

log = structlog.get_logger(__name__)

EXPIRES_SOON: Final = timedelta(days=14)
_BETWEEN_WARNINGS: Final = timedelta(days=1)
_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED."""
_MAX_BYTES: Final = 1024 * 1024
_HINT: Final = (
    "set VXLAN_OPERATOR_LISTEN_CERT and VXLAN_OPERATOR_LISTEN_KEY to a certificate (with its chain) "
    "and its key, both PEM, without a passphrase, readable for this user"
)


class PairError(Exception):
    """Certificate and key cannot be used."""


class _Pair(NamedTuple):
    """A certificate and key that fit.

    Attributes:
        context: serves them.
        ends: the end of the certificate; None: not known. `datetime.min`: it has ended.
    """

    context: ssl.SSLContext
    ends: datetime | None


class Tls:
    """Serves the pair in two files.

    Args:
        now: the clock, in UTC.

    Attributes:
        context: for the server; each handshake takes the newest pair that could be used.

    Raises:
        PairError: the files cannot be read, or do not fit.
    """

    def __init__(
        self, certificate: Path, key: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._files = (certificate, key)
        self._now = now
        self._warned_at: datetime | None = None
        self._seen = self._stamps()
        self._pair = self._read()
        # A pair of another type loaded into a live context would stand beside the old one, and a pair that
        # does not fit would leave it without a key. So each pair has a context of its own.
        self.context = _context()
        self.context.sni_callback = self._choose

    @classmethod
    def of(cls, certificate: str, key: str) -> Self | None:
        """Read the pair of the settings; None: there is none.

        Raises:
            OperatorError: it cannot be used.
        """
        if not certificate and not key:
            return None
        if not certificate or not key:
            given, missing = ("cert", "key") if certificate else ("key", "cert")
            raise OperatorError(f"listen_{given} is set, and listen_{missing} is not", _HINT)
        try:
            return cls(Path(certificate), Path(key))
        except PairError as error:
            raise OperatorError(str(error), _HINT) from error

    def refresh(self) -> None:
        """Read the files again if they have changed, and warn of an end that is near; never raises."""
        seen = self._stamps()
        if seen != self._seen:
            self._seen = seen
            try:
                self._pair = self._read()
            except PairError as error:
                reason = str(error)
                log.error("new certificate not used, the old one is kept", reason=reason)  # noqa: TRY400 -- no fault of ours
            else:
                self._warned_at = None
                log.info("certificate read again", file=str(self._files[0]))
        self._warn()

    def _warn(self) -> None:
        now, ends = self._now(), self._pair.ends
        if ends is None or ends - now > EXPIRES_SOON:
            return
        if self._warned_at is None or now - self._warned_at >= _BETWEEN_WARNINGS:
            self._warned_at = now
            if ends <= now:
                log.error("the certificate has expired", file=str(self._files[0]))
            else:
                log.warning("the certificate expires soon", file=str(self._files[0]), at=str(ends))

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        """Give a handshake the newest pair; OpenSSL asks whether or not the client names a host."""
        connection.context = self._pair.context

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(file) for file in self._files)

    def _read(self) -> _Pair:
        certificate, key = (_bytes(file) for file in self._files)
        context = _context()
        # What was read is what is used, also if the files change meanwhile.
        first, second = (os.memfd_create("pair") for _ in range(2))
        try:
            for descriptor, content in ((first, certificate), (second, key)):
                with open(descriptor, "wb", closefd=False) as file:
                    file.write(content)
            context.load_cert_chain(
                f"/proc/self/fd/{first}", f"/proc/self/fd/{second}", password=_no_passphrase
            )
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or error.strerror or "no PEM"
            names = " and ".join(map(str, self._files))
            raise PairError(f"certificate and key in {names} cannot be used: {reason}") from error
        finally:
            os.close(first)
            os.close(second)
        return _Pair(context, _end(context, certificate))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> bytes:
    """Or OpenSSL would ask for one on the terminal."""
    return b""


def _bytes(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise PairError(f"{file} is no file")
        with file.open("rb") as opened:
            return opened.read(_MAX_BYTES)
    except OSError as error:
        raise PairError(f"{file} cannot be read: {error.strerror}") from error


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _end(context: ssl.SSLContext, certificate: bytes) -> datetime | None:
    """Tell when a certificate ends: by a handshake in memory, since `ssl` shows that to its peer alone."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(cadata=certificate.decode("ascii", "ignore"))
        one = client.wrap_bio(back, there)
        other = context.wrap_bio(there, back, server_side=True)
        for _ in range(2):
            for side in (one, other):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        ends = (one.getpeercert() or {})["notAfter"]
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(ends)), UTC)
    except ssl.SSLCertVerificationError as error:
        return datetime.min.replace(tzinfo=UTC) if error.verify_code == _EXPIRED else None
    except (ssl.SSLError, ValueError, KeyError):
        return None
