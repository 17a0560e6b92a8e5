"""Hints: what events say, what is lost, and that there is a bound."""

from collections.abc import Iterator, Sequence

from controller.swarm.events import Events, Hint, Hints
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError, SwarmEvent


class Streams(DockerSwarm):
    """Yields streams of events, one after another; each ends, in silence or with an error."""

    def __init__(self, *streams: Sequence[SwarmEvent | SwarmError]) -> None:
        self._streams = list(streams)
        self.since: list[str] = []

    def clock(self) -> str:
        """See `DockerSwarm.clock`."""
        return "now"

    def events(self, since: str) -> Iterator[SwarmEvent]:
        """See `DockerSwarm.events`."""
        self.since.append(since)
        for each in self._streams.pop(0):
            if isinstance(each, SwarmError):
                raise each
            yield each


def listening(*streams: Sequence[SwarmEvent | SwarmError]) -> tuple[Streams, Hints, list[bool]]:
    """Listen to each stream."""
    source, hints = Streams(*streams), Hints()
    hints.take()
    events = Events(source, hints)
    return source, hints, [events.step() for _ in streams]


SERVICE = SwarmEvent("service", "s1", "1.5")
NODE = SwarmEvent("node", "n1", "2.5")
BROKEN = SwarmError("it broke")


def test_everything_is_looked_at_first() -> None:
    hints = Hints()
    assert hints.take() == Hint(everything=True)
    assert hints.take() == Hint()


def test_events_name_what_to_look_at() -> None:
    hints = Hints()
    hints.take()
    events = Events(Streams([], [SERVICE, NODE, SwarmEvent("network", "x1", "3")]), hints)
    events.step()
    hints.take()
    assert events.step()
    assert hints.take() == Hint(
        services=frozenset(["s1"]), networks=frozenset(["x1"]), nodes=frozenset(["n1"])
    )


def test_what_is_not_known_is_no_hint() -> None:
    hints = Hints()
    events = Events(Streams([], [SwarmEvent("volume", "v1", "3")]), hints)
    events.step()
    hints.take()
    events.step()
    assert hints.take() == Hint()


def test_after_a_silence_it_goes_on_from_the_last_event() -> None:
    source, _, whole = listening([], [SERVICE, NODE], [])
    assert source.since == ["now", "now", "2.5"]
    assert whole == [True, True, True]


def test_when_it_begins_to_listen_everything_may_have_happened_before() -> None:
    _, hints, _ = listening([SERVICE])
    assert hints.take() == Hint(everything=True)


def test_after_a_break_it_begins_anew_and_everything_is_looked_at() -> None:
    source, hints, whole = listening([SERVICE, BROKEN], [])
    assert source.since == ["now", "now"]
    assert whole == [False, True]
    assert hints.take() == Hint(everything=True)


def test_hints_are_bounded() -> None:
    hints = Hints()
    hints.take()
    for number in range(1_001):
        hints.add(Hint(services=frozenset([f"s{number}"])))
    assert hints.take() == Hint(everything=True)


def test_only_what_is_new_wakes() -> None:
    hints = Hints()
    hints.put_back(Hint(nodes=frozenset(["n1"])))
    assert not hints.wait(0)
    hints.add(Hint(nodes=frozenset(["n2"])))
    assert hints.wait(0)
    hints.take()
    assert not hints.wait(0)
