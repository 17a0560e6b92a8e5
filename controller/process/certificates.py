"""What is wrong with the certificates in the settings' files: an end that is near, say."""

import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.x509 import load_pem_x509_certificates

from controller.process.tls import EXPIRES_SOON

_SECONDS: Final = 300.0
"""Between two looks at the files."""
_MAX_BYTES: Final = 1024 * 1024


class Certificates:
    """Looks at the first certificate of each file; one thread asks.

    Args:
        files: setting to path.
    """

    def __init__(
        self,
        files: Mapping[str, str],
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._utcnow = utcnow
        self._host = socket.gethostname()
        self._monotonic = monotonic
        self._found: Mapping[str, str] = {}
        self._look_at = 0.0

    def __call__(self) -> Mapping[str, str]:
        """Return a sentence for each file with which something is wrong, by path."""
        if self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + _SECONDS
            found = {path: self._look(setting, Path(path)) for setting, path in self._files.items()}
            self._found = {path: text for path, text in found.items() if text is not None}
        return self._found

    def _look(self, setting: str, path: Path) -> str | None:
        what = f"the certificate {path} on {self._host} (VXLAN_OPERATOR_{setting.upper()})"
        try:
            with path.open("rb") as file:
                certificate = load_pem_x509_certificates(file.read(_MAX_BYTES))[0]
        except OSError as error:
            return f"{what} cannot be read: {error.strerror}"
        except ValueError:
            return f"{what} is none that can be read"
        ends = certificate.not_valid_after_utc
        when = f"{ends:%Y-%m-%d %H:%M} UTC"
        if ends <= self._utcnow():
            return f"{what} has ended at {when}: nobody accepts it"
        if ends - self._utcnow() <= EXPIRES_SOON:
            return f"{what} ends at {when}: then nobody accepts it any more"
        return None
