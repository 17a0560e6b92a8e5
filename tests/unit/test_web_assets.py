"""The dashboard's files: what is served is what the lock says, and small enough."""

import gzip
import hashlib
import tomllib

import pytest

from controller.web.assets import FOLDER, assets

VENDOR = FOLDER / "vendor"
PACKAGES = tomllib.loads((VENDOR / "vendor.toml").read_text())["package"]
FILES = {file["name"]: file for package in PACKAGES for file in package["file"]}
MAX_BYTES = 120_000


@pytest.mark.parametrize("name", FILES)
def test_a_library_is_the_one_of_the_lock(name: str) -> None:
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == FILES[name]["sha256"]


def test_the_lock_names_each_file_and_its_licence() -> None:
    assert {file.name for file in VENDOR.iterdir()} == {*FILES, "vendor.toml"}
    for package in PACKAGES:
        assert package["integrity"].startswith("sha512-")
        assert any(file["name"].endswith(".LICENSE") for file in package["file"])


def test_the_path_of_a_file_changes_with_its_content() -> None:
    for asset in assets().values():
        assert hashlib.sha256(asset.content).hexdigest()[:12] in asset.path
        assert gzip.decompress(asset.compressed) == asset.content


def test_all_files_together_leave_room_for_a_page() -> None:
    assert sum(len(asset.compressed) for asset in assets().values()) < MAX_BYTES // 2
