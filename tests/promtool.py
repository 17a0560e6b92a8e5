"""promtool, which scripts/install takes from Debian's package: without it tests skip, and fail in CI."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import cannot

_OURS = Path(sys.executable).with_name("promtool")


def promtool(*arguments: str, given: bytes = b"") -> None:
    """Run promtool, which must find nothing wrong: a warning fails, too."""
    program = str(_OURS) if _OURS.exists() else shutil.which("promtool")
    if program is None:
        cannot("promtool is missing: run scripts/install (as root where apt has no lists)")
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert not done.stderr, done.stderr.decode()


def check_metrics(text: bytes) -> None:
    """Check the names, help texts and types of metrics as text."""
    promtool("check", "metrics", given=text)
