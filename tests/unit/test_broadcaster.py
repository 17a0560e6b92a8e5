"""How long the broadcaster rests between two looks at the followed lists."""

import pytest

from controller.api.watch import broadcaster as module


class Time:
    """Stands for the module `time` of a thread that gets a part of a core."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = 7.0

    def monotonic(self) -> float:
        """The time."""
        return self.now

    def thread_time(self) -> float:
        """Processor time of the thread."""
        return self.cpu


@pytest.mark.parametrize(
    ("cpu", "took", "rest"),
    [
        pytest.param(0.0001, 0.0001, module.POLL_SECONDS, id="nothing happened"),
        pytest.param(0.02, 0.02, 0.48, id="a share of a core"),
        pytest.param(0.02, 0.4, 0.48, id="a busy machine: what others use does not count"),
        pytest.param(0.001, 0.9, 0.9, id="a slow database server has half of the time"),
        pytest.param(1.0, 1.0, 2.0, id="a large list: an event is late, but not later"),
        pytest.param(0.1, 60.0, 2.0, id="never longer"),
    ],
)
def test_the_rest_after_a_look(
    monkeypatch: pytest.MonkeyPatch, cpu: float, took: float, rest: float
) -> None:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    spent = module._Spent()
    time.now += took
    time.cpu += cpu
    assert spent.rest() == pytest.approx(rest)
