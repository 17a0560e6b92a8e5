"""Two real dockerds and the images of both builders on them."""

import os
from collections.abc import Iterator

import pytest

from contract import VERSION
from tests import images
from tests.conftest import cannot
from tests.lab import Lab, LabError, Node, prerequisites

LEGACY = "legacy"
"""Tag of the images of the legacy builder; those of BuildKit have the version."""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    try:
        prerequisites.check(None)
    except LabError as error:
        cannot(str(error))
    with Lab.create(f"images-{os.getpid()}", nodes=2) as booted:
        yield booted


@pytest.fixture(scope="session")
def node(lab: Lab) -> Node:
    """The first node, with the images of both builders."""
    images.build(lab.manager, tag=VERSION, buildkit=True)
    images.build(lab.manager, tag=LEGACY, buildkit=False)
    return lab.manager


@pytest.fixture(params=[VERSION, LEGACY], ids=["buildkit", "legacy"])
def tag(request: pytest.FixtureRequest) -> str:
    """The images of each builder in turn."""
    chosen: str = request.param
    return chosen
