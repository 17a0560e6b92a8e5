"""`Holding`: what holds back the removal of a device, for all who list, forecast, explain or count it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from sqlalchemy.orm import Session

from contract.verdicts import Mode, Verdict
from controller.conditions import holds
from controller.conditions.facts import SETTLES_WITHIN, network_holds, node_names
from controller.conditions.holds import Hold
from controller.db.models import Cluster, Device, Node


class Holding:
    """What holds back removals, by the rows of one session, each read once.

    Args:
        configured: the mode in the controller's settings.
    """

    def __init__(self, session: Session, configured: Mode, now: datetime) -> None:
        self._session = session
        self._configured = configured
        self._now = now
        self._nodes: dict[str, list[Hold]] = {}

    def of(self, device: Device, node: Node) -> Sequence[Hold]:
        """Return what holds a device's removal back; none: it is not to be removed, or about to be."""
        if device.verdict is Verdict.SETTLING and device.verdict_at < self._now - SETTLES_WITHIN:
            typed = self._names.typed(node.id)
            return [holds.without_proof(node.hostname, typed, device.verdict_at, device.reason)]
        return self.once_proved(device, node) if device.verdict is Verdict.ORPHAN else []

    def once_proved(self, device: Device, node: Node) -> Sequence[Hold]:
        """Return what holds a device's removal back besides a missing proof."""
        found = self.on_node(node, [device.vni])
        if device.held_back is not None:
            typed, since = self._names.typed(node.id), device.judged_at
            found.append(holds.of_worker(device.held_back, node.hostname, typed, since))
        return holds.ordered(found)

    def on_node(self, node: Node, vnis: Iterable[int] = ()) -> list[Hold]:
        """Return what holds back every removal on a node, and those of devices with these VNIs, in order."""
        if node.id not in self._nodes:
            self._nodes[node.id] = holds.of_node(node, self._names.typed(node.id))
        found = [*self._everywhere, *self._nodes[node.id]]
        for vni in vnis:
            found += self._networks.get(vni, ())
        # A network has as many VNIs as subnets.
        return holds.ordered(dict.fromkeys(found))

    @cached_property
    def _everywhere(self) -> list[Hold]:
        cluster = self._session.get(Cluster, 1)
        return [] if cluster is None else holds.of_cluster(cluster, self._configured)

    @cached_property
    def _networks(self) -> Mapping[int, list[Hold]]:
        return network_holds(self._session)

    @cached_property
    def _names(self) -> holds.Names:
        return node_names(self._session)
