"""docs/upgrade.md: a backup of SQLite, and the way back to it after a controller that was killed."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import func, select

from controller.db.audit_models import AuditRow
from controller.db.engine import open_database
from tests.controller_process import vxctl
from tests.documents import commands
from tests.trail import check, record


def shell(folder: Path, state: Path, lines: list[str]) -> None:
    """Run commands in a folder, with another one for the controller's state."""
    text = "\n".join(lines).replace("/var/lib/vxlan-operator", str(state))
    done = subprocess.run(
        ["sh", "-eu", "-c", text], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_backup_of_sqlite_is_restored_as_documented(tmp_path: Path) -> None:
    live, lost = tmp_path / "live", tmp_path / "lost"
    live.mkdir()
    with closing(open_database(f"sqlite:///{live}/controller.db")) as database:
        record(database, 20)
        shell(tmp_path, live, commands("upgrade.md", "## Backup"))
        record(database, 500)
        # As it is there when the controller is killed: with its log.
        shutil.copytree(live, lost)
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    assert (lost / "controller.db-wal").stat().st_size > 0
    shell(tmp_path, lost, commands("upgrade.md", "## The way back"))
    url = f"sqlite:///{lost}/controller.db"
    assert vxctl("db", "check", "--database-url", url).stdout == "the schema is correct\n"
    with closing(open_database(url)) as database:
        assert check(database) is None
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(AuditRow)) == 20
