"""Which tests may run at the same time, under pytest-xdist (`-n`): one by one, or in lanes."""

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_BROWSER: Final = "tests/browser/"
_LANES: Final = {
    "tests/installed/test_stack.py": "installed",
    "tests/stack_images/test_contents.py": "images",
    "tests/stack_images/test_running.py": "images",
    "tests/swarm/test_faults.py": "first lab",
    "tests/swarm/test_holders.py": "second lab",
    "tests/swarm/test_operator.py": "second lab",
    "tests/swarm/test_lab.py": "third lab",
    "tests/swarm/test_stalls.py": "third lab",
}
"""A lane runs on one worker process, one test after another: a lab is three dockerds, which load two cores.

The tests in a browser are a lane: they share one browser and one controller.

(Not by xdist's own `xdist_group`: xdist 3.8 does not see such marks under pytest 9.2.)
"""


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives a worker process its next test when it has almost none left; a lane as a whole."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        # In the order of collection, and not by the number of tests: a lane of few takes longest.
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_BROWSER):
            return _BROWSER
        return _LANES.get(nodeid.partition("::")[0], nodeid)
