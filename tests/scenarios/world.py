"""The world of one scenario: its clock, Swarm, controller and node, and what it still owes."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from contract.messages import ReconcileReport, ReconcileRequest
from tests.fake_swarm import swarm_id
from tests.scenarios.controller import Controller
from tests.scenarios.errors import ScenarioError
from tests.scenarios.manager import FakeManager
from tests.scenarios.node import Node, TickingClock
from worker.kernel.model import Device, Netns

_NAME: Final = re.compile("[0-9a-z]{1,20}")
_NETNS: Final = re.compile("host|nsid:[0-9]{1,9}")


class World:
    """What the commands of a scenario act upon.

    Attributes:
        clock: of all machines.
        manager: the fake Swarm.
        controller: what is known of it, and told to the worker.
        report: of the last run; None: there was none, or the worker died.
        request: the last one that was made.
        scanned: the devices that the last `scan` told; None: there was none.
        entries_seen: how many entries of the audit trail were expected so far.
        hits_seen: how many deletions were followed by an expectation.
        happenings: what is to happen before a call of the kernel, and has not.
        do: runs a command; the runner sets it.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = TickingClock()
        self.manager = FakeManager()
        self.controller = Controller(self.manager, self.clock)
        self.report: ReconcileReport | None = None
        self.request: ReconcileRequest | None = None
        self.scanned: Sequence[Any] | None = None
        self.entries_seen = 0
        self.hits_seen = 0
        self.happenings: dict[int, str] = {}
        self.do: Callable[[Sequence[str]], None] = lambda _words: None
        self._folder = folder
        self._node: Node | None = None
        self._next_ifindex = 7
        self._next_happening = 0

    @property
    def node(self) -> Node:
        """The worker's node: the Swarm's first one."""
        if self._node is None:
            names = self.manager.node_names
            if not names:
                raise ScenarioError("begin with `swarm node NAME`: the worker is on the first node")
            self._node = Node(swarm_id(names[0]), self._folder, self.clock)
        return self._node

    @property
    def node_id(self) -> str:
        """The Swarm id of that node."""
        if not self.manager.node_names:
            raise ScenarioError("begin with `swarm node NAME`: the worker is on the first node")
        return swarm_id(self.manager.node_names[0])

    def end(self) -> None:
        """Close what is open."""
        if self._node is not None:
            self._node.close()

    def owes(self) -> list[str]:
        """What was to happen and did not, or happened and nobody looked."""
        owed = [f"this never happened: {text}" for text in self.happenings.values()]
        if self._node is None:
            return owed
        owed += [f"no answer of {each} was lost" for each in (+self._node.kernel._lost)]
        unseen = self._node.kernel.hits[self.hits_seen :]
        owed += [
            f"{each.identity or f'ifindex {each.ifindex}'} was deleted, and nothing is expected after that"
            for each in unseen
        ]
        return owed

    def looked(self) -> None:
        """Something was expected: what was deleted by now is not unseen."""
        self.hits_seen = len(self.node.kernel.hits)

    def ifindex(self) -> int:
        """An ifindex that no device has had."""
        self._next_ifindex += 1
        return self._next_ifindex - 1

    def device(self, name: str, netns: str | None) -> Device:
        """The one device of this name."""
        found = [
            each
            for each in self.node.kernel.devices()
            if each.identity.name == name and netns in (None, str(each.identity.netns))
        ]
        if len(found) != 1:
            where = f" in {netns}" if netns else ""
            raise ScenarioError(f"there are {len(found)} devices {name}{where}, and one is meant")
        return found[0]

    def happening(self, text: str) -> Callable[[], None]:
        """Note that something is to happen; return what is to be called when it does."""
        self._next_happening += 1
        number = self._next_happening
        self.happenings[number] = text
        return lambda: self.happenings.__delitem__(number)

    def readable(self, text: str) -> str:
        """A text with the scenario's names for Swarm ids."""
        for id_, name in self.manager.names.items():
            text = text.replace(id_, name)
        return text


def checked_name(name: str) -> str:
    """A name of the Swarm's, which its id begins with."""
    if not _NAME.fullmatch(name):
        raise ScenarioError(f"{name!r}: a name of the Swarm has 1 to 20 small letters and digits")
    return name


def read_netns(text: str) -> Netns:
    """Read `host` or `nsid:4`."""
    if not _NETNS.fullmatch(text):
        raise ScenarioError(f"{text!r} is no network namespace: write host, or nsid:4")
    return Netns.parse(text)
