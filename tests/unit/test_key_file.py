"""Files of private keys: made once and whole, for their owner alone, and never shown."""

import os
from pathlib import Path

import pytest

from contract.runtime.errors import OperatorError
from contract.runtime.key_file import make_key, read_key
from tests.signed import key_of


def test_a_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node.key"
    assert read_key(path) is None
    made = make_key(path)
    found = read_key(path)
    assert found is not None
    assert found.public == made.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OperatorError, match="File exists"):
        make_key(path)
    assert [each.name for each in path.parent.iterdir()] == ["node.key"]


def test_what_is_no_key_is_told_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    for content in (b"", b"secret", key_of("x").pem()[:-40]):
        path.write_bytes(content)
        with pytest.raises(OperatorError) as caught:
            read_key(path)
        assert "secret" not in caught.value.lines()
        assert "mv " in caught.value.hint


def test_a_link_or_a_device_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.symlink_to("/dev/zero")
    with pytest.raises(OperatorError, match="symbolic link"):
        read_key(path)
    with pytest.raises(OperatorError, match="File exists"):
        make_key(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OperatorError, match="not a regular file"):
        read_key(path)
