"""`tests.logs`: what a test that fails shows of its servers."""

import os
from pathlib import Path

import pytest

from tests import logs


def test_logs_that_were_written_meanwhile_are_shown_by_their_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [str(number) for number in range(100)]
    names = ("old", "empty", "elsewhere", "gone")
    old, empty, elsewhere, gone = (tmp_path / name / "server.log" for name in names)
    own = tmp_path / "test" / "worker" / "worker.log"
    for path in (old, empty, elsewhere, own):
        path.parent.mkdir(parents=True)
        path.write_text("" if path is empty else "\n".join(lines))
        os.utime(path, (1_000, 1_000 if path is old else 2_000))
    monkeypatch.setattr(logs, "STARTED", dict.fromkeys([old, empty, elsewhere, gone]))
    shown = dict(logs.ends(tmp_path / "test", 1_500))
    assert list(shown) == [elsewhere, own]
    assert set(shown.values()) == {"\n".join(lines[-40:])}
