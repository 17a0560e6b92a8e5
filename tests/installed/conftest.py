"""A lab of three managers whose first has all images, and the operator's scripts on it."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import images
from tests.conftest import cannot
from tests.installed import servers
from tests.installed.installed import Installed
from tests.lab import Lab, LabError, prerequisites


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three managers: so that one may be lost."""
    engine: Path | None = request.config.getoption("--engine")
    try:
        prerequisites.check(engine)
    except LabError as error:
        cannot(str(error))
    with Lab.create(f"stack-{os.getpid()}", nodes=3, engine=engine) as booted:
        for node in booted.nodes:
            # Where compose.yml looks for it.
            node.run(["ln", "-s", str(node.socket), "/run/docker.sock"], inside=True)
        with ThreadPoolExecutor(len(booted.nodes)) as pool:
            loaded = [pool.submit(servers.load, node) for node in booted.nodes]
            images.build(booted.manager, buildkit=False)
            images.copy([images.CONTROLLER], booted.manager, booted.nodes[1:])
            for each in loaded:
                each.result()
        yield booted


@pytest.fixture(scope="session")
def operator(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The scripts; what they installed is removed in the end."""
    with Installed(lab, tmp_path_factory.mktemp("bin")) as installed:
        yield installed
