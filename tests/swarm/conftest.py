"""One real Swarm for all tests of this folder, and the operator on it, anew for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import logs
from tests.conftest import cannot
from tests.lab import Lab, LabError, prerequisites
from tests.stack import Stack

GRACE_SECONDS = 1.0


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Path | None:
    """The root folder of the engine to test on; None for this machine's own."""
    chosen: Path | None = request.config.getoption("--engine")
    try:
        prerequisites.check(chosen)
    except LabError as error:
        cannot(str(error))
    return chosen


@pytest.fixture(scope="package")
def lab(engine: Path | None) -> Iterator[Lab]:
    """Three nodes, booted once; what runs after these tests has the machine for itself."""
    with Lab.create(f"pytest-{os.getpid()}", nodes=3, engine=engine) as booted:
        logs.STARTED.update(dict.fromkeys(node.log for node in booted.nodes))
        yield booted


@pytest.fixture
def stack(lab: Lab, tmp_path: Path) -> Iterator[Stack]:
    """The operator with a grace period of one second; services and networks are removed afterwards."""
    try:
        with Stack(lab, tmp_path, grace=GRACE_SECONDS) as running:
            yield running
    finally:
        clean(lab)


def clean(lab: Lab) -> None:
    """Remove the services, and the networks of the tests."""
    services = lab.manager.docker("service", "ls", "--quiet").split()
    if services:
        lab.manager.docker("service", "rm", *services)
    networks = lab.manager.docker("network", "ls", "--quiet", "--filter", "label=test").split()
    for network in networks:
        lab.manager.docker("network", "rm", network)
