"""Capabilities: raised from permitted to effective, and what is said of one that is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker import capabilities

OURS = 1 << capabilities.NET_ADMIN | 1 << capabilities.NET_BROADCAST

# As execve leaves a process whose file has "+p": permitted, and nothing effective.
PERMITTED_ONLY = """
import ctypes, json
from worker import capabilities
libc = ctypes.CDLL(None)
header, data = capabilities._Header(0x20080522, 0), (capabilities._Data * 2)()
data[0].permitted = int({permitted})
assert libc.capset(ctypes.byref(header), data) == 0
before = capabilities.effective()
capabilities.raise_permitted()
print(json.dumps([before, capabilities.effective()]))
"""


@pytest.mark.privileged
@pytest.mark.parametrize(
    "permitted", [OURS, 1 << capabilities.NET_ADMIN, 0, OURS | 1 << 21], ids=hex
)
def test_ours_are_raised_and_no_other(permitted: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PERMITTED_ONLY.format(permitted=permitted)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [0, permitted & OURS]


def status(tmp_path: Path, **fields: str) -> Path:
    path = tmp_path / "status"
    path.write_text("".join(f"{name}:\t{value}\n" for name, value in fields.items()))
    return path


@pytest.mark.parametrize(
    ("fields", "uid", "from_image", "expected"),
    [
        ({"CapEff": "0000000000001800", "CapBnd": "0000000000001800"}, 65532, True, None),
        ({"CapEff": "0", "CapBnd": "0000000000000800"}, 65532, True, "--cap-add NET_ADMIN"),
        ({"CapEff": "0", "CapBnd": "1800", "NoNewPrivs": "1"}, 65532, True, "no-new-privileges"),
        ({"CapEff": "0", "CapBnd": "1800", "NoNewPrivs": "0"}, 65532, True, "has lost its"),
        ({"CapEff": "0", "CapBnd": "1800", "NoNewPrivs": "1"}, 65532, False, None),
        ({"CapEff": "0", "CapBnd": "1800", "NoNewPrivs": "0"}, 0, True, None),
        ({"CapEff": "0", "CapBnd": "1800", "CapPrm": "1800", "NoNewPrivs": "0"}, 65532, True, None),
    ],
)
def test_the_hint_names_what_keeps_it_away(
    fields: dict[str, str],
    uid: int,
    from_image: bool,
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capabilities, "_STATUS", status(tmp_path, **fields))
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(capabilities, "_from_image", lambda: from_image)
    found = capabilities.why_missing()
    assert (found is None) == (expected is None)
    assert (expected or "") in (found or "")
