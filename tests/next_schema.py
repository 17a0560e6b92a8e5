"""A program with one more migration than this one: what an upgrade of a filled database does."""

import shutil
from pathlib import Path
from textwrap import indent

import pytest

import migrations

REVISION = "next"
NEWEST = max(path.name[:4] for path in Path(migrations.__file__).parent.glob("versions/0*.py"))
"""The newest revision of this program."""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *operations: str) -> None:
    """Add a migration that carries out these operations (Python, with `op` and `sa`)."""
    copy = folder / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, copy)
    (copy / "versions" / "next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f'revision, down_revision = "{REVISION}", "{NEWEST}"\n'
        f"def upgrade():\n{indent(chr(10).join(operations), '    ')}\n"
    )
    monkeypatch.setattr(migrations, "__file__", str(copy / "__init__.py"))
