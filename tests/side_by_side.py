"""Which tests may run at the same time, under pytest-xdist (`-n`): one by one, by file, or in lanes."""

import functools
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_BROWSER: Final = "tests/browser"
_UNIT: Final = "tests/unit"
_LANES: Final = {
    "tests/installed/test_stack.py": "installed",
    "tests/stack_images/test_contents.py": "images",
    "tests/stack_images/test_running.py": "images",
    "tests/swarm/test_docker_access.py": "first lab",
    "tests/swarm/test_faults.py": "first lab",
    "tests/swarm/test_holders.py": "second lab",
    "tests/swarm/test_operator.py": "second lab",
    "tests/swarm/test_lab.py": "third lab",
    "tests/swarm/test_manager_states.py": "third lab",
    "tests/swarm/test_page.py": "third lab",
    "tests/swarm/test_stalls.py": "third lab",
}
"""A lane runs on one worker process, one test after another: a lab is three dockerds, which load two cores.

The tests in a browser are a lane: they share one browser and one controller.

(Not by xdist's own `xdist_group`: xdist 3.8 does not see such marks under pytest 9.2.)
"""


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives a worker process its next test when it has almost none left; a lane or a file as a whole."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        # In the order of collection, and not by the number of tests: a lane of few takes longest.
        config.option.loadscopereorder = False
        super().__init__(config, log)
        self._root = config.rootpath

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith(_BROWSER):
            return _BROWSER
        if file in _LANES:
            return _LANES[file]
        return file if file.startswith(_UNIT) or shares(self._root / file) else nodeid


def turn(item: pytest.Item) -> int:
    """What comes first, and last: side by side, nothing that takes minutes is left for the end."""
    file = item.path.relative_to(item.config.rootpath).as_posix()
    if item.get_closest_marker("swarm") is not None:
        return 0
    if file.startswith(_BROWSER):
        return 1
    if file.startswith(_UNIT):
        return 4
    return 2 if shares(item.path) else 3


@functools.cache
def shares(file: Path) -> bool:
    """Whether the tests of a file share what a fixture starts: each process that runs one starts it again."""
    return 'scope="module"' in file.read_text()
