"""One real Swarm for all tests of this folder, and the operator on it, anew for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import cannot
from tests.lab import Lab, LabError
from tests.stack import Stack

GRACE_SECONDS = 1.0


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three nodes, booted once."""
    engine: Path | None = request.config.getoption("--engine")
    try:
        booted = Lab.create(f"pytest-{os.getpid()}", nodes=3, engine=engine)
    except LabError as error:
        cannot(f"no lab can be booted: {error}")
        raise
    with booted:
        yield booted


@pytest.fixture
def stack(lab: Lab, tmp_path: Path) -> Iterator[Stack]:
    """The operator with a grace period of one second; services and networks are removed afterwards."""
    try:
        with Stack(lab, tmp_path, grace=GRACE_SECONDS) as running:
            yield running
    finally:
        services = lab.manager.docker("service", "ls", "--quiet").split()
        if services:
            lab.manager.docker("service", "rm", *services)
        networks = lab.manager.docker("network", "ls", "--quiet", "--filter", "label=test").split()
        for network in networks:
            lab.manager.docker("network", "rm", network)
