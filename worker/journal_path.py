"""Where this node's journal is, for the commands that a person runs beside the worker."""

import os
from pathlib import Path
from typing import Final

from contract.runtime.settings import Settings
from contract.runtime.variables import PREFIX

_OF_THE_UNIT: Final = Path("/var/lib/vxlan-worker/journal.jsonl")
"""Where packaging/systemd/vxlan-worker.service has it."""
BY_DEFAULT: Final = Path("/var/lib/vxlan-operator/journal.jsonl")
"""Where `vxlan-worker run` has it by itself."""


def journal_path(given: Path | None) -> Path:
    """Return the journal: as given, or as the variable says, or the unit's if it is there, or the default."""
    named = given or os.environ.get(f"{PREFIX}JOURNAL")
    if named:
        return Path(named)
    return _OF_THE_UNIT if _is_there(_OF_THE_UNIT.parent) else BY_DEFAULT


def given_journal(settings: Settings) -> Path | None:
    """Return the journal that settings were given; None: by neither option nor variable."""
    given: dict[str, Path] = settings.model_dump(include={"journal"}, exclude_unset=True)
    return given.get("journal")


def _is_there(folder: Path) -> bool:
    try:
        folder.lstat()
    except OSError:
        return False
    return True
