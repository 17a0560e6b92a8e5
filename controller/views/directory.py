"""The nodes and networks of the Swarm by what a text calls them: names, short host names, ids, prefixes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.db.models import Network, NetworkVni, Node
from controller.explain.clues import ORDINARY, Clues
from controller.swarm.model import normal_cidr

_MIN_PREFIX: Final = 4
"""Characters of an id that stands where a node or network is named."""
_MIN_WEAK_PREFIX: Final = 7
"""Characters of an id anywhere in a text."""


class Subject(NamedTuple):
    """A node or network."""

    id: str
    name: str
    gone: bool


class Names:
    """Subjects of one kind by their names. Those of the Swarm come before those that are gone."""

    def __init__(self, subjects: Iterable[Subject], *, hosts: bool) -> None:
        self._by_name: defaultdict[str, list[Subject]] = defaultdict(list)
        self._by_short: defaultdict[str, list[Subject]] = defaultdict(list)
        self._by_prefix: defaultdict[str, list[Subject]] = defaultdict(list)
        self.by_id: dict[str, Subject] = {}
        self._hosts = hosts
        for subject in sorted(subjects, key=lambda subject: subject.gone):
            self.by_id[subject.id] = subject
            self._by_name[subject.name.lower()].append(subject)
            self._by_prefix[subject.id[:_MIN_PREFIX].lower()].append(subject)
            if hosts:
                self._by_short[subject.name.lower().partition(".")[0]].append(subject)

    def strong(self, word: str) -> Subject | None:
        """Return the subject that a word means where a name stands; None: none, or several."""
        return (
            self.by_id.get(word)
            or _only(self._by_name.get(word, ()))
            or (self._by_host(word) if self._hosts else None)
            or self.by_prefix(word, _MIN_PREFIX)
        )

    def weak(self, word: str) -> Subject | None:
        """Return the subject that a word means anywhere in a text."""
        found = _only(self._by_name.get(word, ()))
        if found is None and self._hosts and not word.isalpha():
            found = self._by_host(word)
        return found

    def by_prefix(self, word: str, least: int = _MIN_WEAK_PREFIX) -> Subject | None:
        """Return the only subject whose id begins so."""
        if len(word) < least or word.isdigit():
            return None
        candidates = self._by_prefix.get(word[:_MIN_PREFIX], ())
        return _only([subject for subject in candidates if subject.id.startswith(word)])

    def _by_host(self, word: str) -> Subject | None:
        """Return the host with this name without its domain, or of which this is the name with one."""
        short, dot, _ = word.partition(".")
        if not dot:
            return _only(self._by_short.get(word, ()))
        return None if short in ORDINARY else _only(self._by_name.get(short, ()))


def _only(subjects: Sequence[Subject]) -> Subject | None:
    """Return the only one in the Swarm, or else the only one that is gone."""
    present = [subject for subject in subjects if not subject.gone]
    found = present or list(subjects)
    return found[0] if len(found) == 1 else None


class Directory:
    """All nodes and networks, and what a line names of them."""

    def __init__(self, session: Session) -> None:
        self.nodes = Names(
            (
                Subject(row.id, row.hostname, row.gone_at is not None)
                for row in session.execute(select(Node.id, Node.hostname, Node.gone_at))
            ),
            hosts=True,
        )
        self.networks = Names(
            (
                Subject(row.id, row.name, row.gone_at is not None)
                for row in session.execute(select(Network.id, Network.name, Network.gone_at))
            ),
            hosts=False,
        )
        self._session = session
        self._of_vni: dict[int, list[str]] = {}
        self._of_subnet: dict[str, list[str]] = {}

    def named_nodes(self, clues: Clues) -> list[str]:
        """Return the ids of the nodes that a line names; a word counts only if nothing better does."""
        return (
            _ids(map(self.nodes.strong, clues.nodes))
            or _ids(map(self.nodes.by_prefix, clues.ids))
            or _ids(map(self.nodes.weak, clues.words))
        )

    def named_networks(self, clues: Clues, subnet: str | None) -> list[str]:
        """Return the ids of the networks that a line names, or that have its VNIs or subnet."""
        found = _ids(map(self.networks.strong, clues.networks))
        found += self._of_devices(clues)
        found = found or _ids(map(self.networks.by_prefix, clues.ids))
        of_subnet = self.with_subnet(subnet) if subnet else []
        if found and of_subnet:
            return [id_ for id_ in found if id_ in of_subnet] or found
        return found or of_subnet or _ids(map(self.networks.weak, clues.words))

    def _of_devices(self, clues: Clues) -> list[str]:
        """Return the networks that have the VNIs; of a device's name also the prefix of the id must fit."""
        prefixes = {device.vni: device.network_prefix for device in clues.devices}
        return [
            id_
            for vni in clues.vnis
            for id_ in self.with_vni(vni)
            if prefixes.get(vni) is None or id_.startswith(str(prefixes[vni]))
        ]

    def with_vni(self, vni: int) -> list[str]:
        """Return the ids of the networks with a VNI: those of the Swarm, or else those that are gone."""
        if vni not in self._of_vni:
            query = select(NetworkVni.network_id).where(NetworkVni.vni == vni)
            self._of_vni[vni] = self._present(self._session.scalars(query).all())
        return self._of_vni[vni]

    def with_subnet(self, subnet: str) -> list[str]:
        """Return the ids of the networks with a subnet: those of the Swarm, or else those that are gone."""
        if subnet not in self._of_subnet:
            query = select(NetworkVni.network_id).where(NetworkVni.cidr == normal_cidr(subnet))
            self._of_subnet[subnet] = self._present(self._session.scalars(query).all())
        return self._of_subnet[subnet]

    def _present(self, ids: Sequence[str]) -> list[str]:
        known = {id_: self.networks.by_id[id_] for id_ in ids if id_ in self.networks.by_id}
        return [id_ for id_, network in known.items() if not network.gone] or list(known)


def _ids(subjects: Iterable[Subject | None]) -> list[str]:
    return list(dict.fromkeys(subject.id for subject in subjects if subject is not None))
