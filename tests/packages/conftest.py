"""Only `make test-packages` runs these: building takes minutes, a release of Debian a quarter gigabyte."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.packages.machine import Machine

collect_ignore_glob = [] if "PACKAGES" in os.environ else ["test_*.py"]

SUITES: Final = ("bookworm", "trixie")
DIST: Final = Path(os.environ.get("PACKAGES", "dist"))


@pytest.fixture(scope="module", params=SUITES)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A machine with what was built in its /root, and with nothing installed."""
    with Machine(request.param, tmp_path_factory.mktemp("machine") / "disk") as machine:
        for file in DIST.iterdir():
            subprocess.run(["cp", file, machine.path("/root")], timeout=60, check=True)
        yield machine
