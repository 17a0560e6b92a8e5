"""`vxctl broker acl --bootstrap`: what it makes, that it may be run again, and what it refuses."""

import hashlib
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from contract.runtime import acl
from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from controller.cli.commands import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["broker", "acl", *arguments])


def test_it_makes_users_and_passwords_that_nobody_else_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    done = run("--bootstrap", str(folder))
    assert done.exit_code == ExitStatus.DONE
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["controller.password", "join.password", "users.acl"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    lines = (folder / "users.acl").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["user", "default"],
        ["user", "controller"],
        ["user", "join"],
    ]
    for user, line in (("controller", lines[1]), ("join", lines[2])):
        password = (folder / f"{user}.password").read_text().removesuffix("\n")
        assert len(password) == 43, "256 bits"
        assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in line.split()
        assert password not in (folder / "users.acl").read_text() + done.output


def test_run_again_it_changes_nothing(tmp_path: Path) -> None:
    run("--bootstrap", str(tmp_path))
    before = {file.name: (file.read_bytes(), file.stat().st_ino) for file in tmp_path.iterdir()}
    run("--bootstrap", str(tmp_path))
    after = {file.name: (file.read_bytes(), file.stat().st_ino) for file in tmp_path.iterdir()}
    assert after == before


def test_a_password_that_was_moved_away_is_made_again_with_its_user(tmp_path: Path) -> None:
    run("--bootstrap", str(tmp_path))
    before = (tmp_path / "users.acl").read_text().splitlines()
    (tmp_path / "join.password").unlink()
    run("--bootstrap", str(tmp_path))
    after = (tmp_path / "users.acl").read_text().splitlines()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False]


def test_the_aclfile_may_be_elsewhere(tmp_path: Path) -> None:
    run("--bootstrap", str(tmp_path / "secrets"), "--file", str(tmp_path / "its" / "users.acl"))
    assert not (tmp_path / "secrets" / "users.acl").exists()
    assert (tmp_path / "its" / "users.acl").read_text().startswith("user default off\n")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two\nlines\n", b"\xff", b"x" * 2000, b"\x1b[31m"]
)
def test_a_file_that_holds_no_password_is_told_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "join.password").write_bytes(content)
    done = run("--bootstrap", str(tmp_path))
    assert isinstance(done.exception, OperatorError)
    assert "join.password holds no password" in done.exception.problem
    assert (tmp_path / "join.password").read_bytes() == content
    assert not (tmp_path / "users.acl").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "users.acl").symlink_to(tmp_path / "target")
    done = run("--bootstrap", str(tmp_path))
    assert isinstance(done.exception, OperatorError)
    assert (tmp_path / "target").read_text() == "mine"


def test_passwords_that_are_not_there_are_told(tmp_path: Path) -> None:
    done = run("--passwords", str(tmp_path))
    assert isinstance(done.exception, OperatorError)
    assert done.exception.hint == f"vxctl broker acl --bootstrap {tmp_path}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [(), ("--bootstrap", "x", "--passwords", "y")])
def test_one_of_the_two_is_needed(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, OperatorError)
    assert done.exception.status == ExitStatus.USAGE


def test_only_users_of_nodes_are_ours() -> None:
    node = "a" * 25
    assert acl.node_of(acl.node_user(node)) == node
    for user in ("node-", f"node-{node}x", f"node-{node.upper()}", f"x-node-{node}", "join"):
        assert acl.node_of(user) is None
