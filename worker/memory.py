"""What a worker has heard, in a file: so a restart opens no door to old messages.

`heard.json` beside the journal has the newest request that was run, the nonces of messages that were
opened, and the data path port that this node has confirmed. It is replaced at every request without waiting
for the disk: it survives the process, and what a power failure loses of it is of no use to anybody, for
then no VXLAN device of before is left, and stamps of another session prove nothing.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Self

import structlog
from pydantic import BaseModel, Field, ValidationError

from contract.messages import KeyId, Timestamp, UdpPort
from contract.runtime.errors import OperatorError
from contract.runtime.files import open_regular, replacing
from contract.signing.replays import Replays, Window

log = structlog.get_logger(__name__)

NONCES: Final = 256
"""Remembered requests of one controllers' key."""
_MAX_BYTES: Final = 2**20


class _Heard(BaseModel):
    version: int = 1
    fence: Annotated[int, Field(ge=0, lt=2**63)] = 0
    issued_at: Timestamp | None = None
    ran_at: Timestamp | None = None
    port: UdpPort | None = None
    seen: dict[KeyId, Window] = {}


class Memory:
    """What was heard. Not thread-safe.

    Args:
        path: its file; None: it ends with the process.

    Attributes:
        fence: of the newest leader whose request was run.
        issued_at: by that leader's clock, of the newest request that was run; None: none was.
        ran_at: when it was, by this machine's clock.
        port: the data path port that this node showed last.
        replays: the nonces of what was opened.
    """

    def __init__(self, path: Path | None = None, heard: _Heard | None = None) -> None:
        heard = heard or _Heard()
        self._path = path
        self._unsaved = False
        self.fence = heard.fence
        self.issued_at: datetime | None = heard.issued_at
        self.ran_at: datetime | None = heard.ran_at
        self.port = heard.port
        self.replays = Replays(NONCES, heard.seen)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the file, if it is there; what it cannot be read from is begun again, with a line in the log.

        Raises:
            OperatorError: the file cannot be read, or is something else than a file.
        """
        try:
            with open_regular(path, "rb") as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise OperatorError(
                f"what was heard before cannot be read from {path}: {error.strerror}",
                f"move it away: mv {path} {path}.bad",
            ) from error
        try:
            return cls(path, _Heard.model_validate_json(content))
        except ValidationError:
            log.warning("what was heard before cannot be read, and is begun again", file=str(path))
            return cls(path)

    def refused(self) -> None:
        """Note that a request was opened and is not run."""
        self._save()

    def ran(self, fence: int, issued_at: datetime, now: datetime) -> None:
        """Note a request that is about to be run."""
        self.fence, self.issued_at, self.ran_at = fence, issued_at, now
        self._save()

    def showed(self, port: int) -> None:
        """Note the data path port that this node shows."""
        self.port = port
        self._save()

    def _save(self) -> None:
        """Write the file. A disk that cannot take it must not keep a node from being looked at."""
        if self._path is None:
            return
        heard = _Heard(
            fence=self.fence,
            issued_at=self.issued_at,
            ran_at=self.ran_at,
            port=self.port,
            seen=self.replays.state(),
        )
        try:
            with replacing(self._path, sync=False) as file:
                file.write(heard.model_dump_json().encode())
        except OSError as error:
            if not self._unsaved:
                log.warning(
                    "an old message may be believed after a restart: what was heard cannot be stored",
                    file=str(self._path),
                    error=error.strerror,
                )
            self._unsaved = True
        else:
            self._unsaved = False

    def keep(self, kids: set[str]) -> None:
        """Forget the messages of all keys but these."""
        self.replays.keep(kids)
