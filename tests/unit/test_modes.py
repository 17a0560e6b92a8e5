"""Modes and pauses: whoever has a say can only take away, and is named."""

from itertools import product

import pytest

from contract.verdicts import Mode
from controller.db.models import Cluster, Network, Node
from controller.safety import modes
from tests.fake_clock import START

OBSERVE, ENFORCE = Mode.OBSERVE, Mode.ENFORCE
ANY_MODE = (None, OBSERVE, ENFORCE)
EITHER = (False, True)


def cluster(mode: Mode | None = None, *, paused: bool = False, tripped: bool = False) -> Cluster:
    """A cluster of which somebody said so."""
    return Cluster(
        mode=mode,
        paused_at=START if paused else None,
        paused_by="alice",
        breaker_tripped_at=START if tripped else None,
        breaker_reason="too many",
    )


def node(
    mode: Mode | None = None,
    label: Mode | None = None,
    *,
    ignored: bool = False,
    paused: bool = False,
    tripped: bool = False,
) -> Node:
    """A node of which somebody said so."""
    return Node(
        hostname="one",
        mode=mode,
        label_mode=label,
        label_ignore=ignored,
        paused_at=START if paused else None,
        paused_by="bob",
        paused_reason="a new disk",
        breaker_tripped_at=START if tripped else None,
        breaker_reason="too fast",
    )


def network(
    mode: Mode | None = None,
    label: Mode | None = None,
    *,
    ignored: bool = False,
    paused: bool = False,
) -> Network:
    """A network of which somebody said so."""
    return Network(
        name="shop",
        mode=mode,
        label_mode=label,
        label_ignore=ignored,
        paused_at=START if paused else None,
        paused_by="carol",
    )


def holding(
    configured: Mode, of_cluster: Mode | None, *says: Mode | None, pauses: int, trips: int
) -> int:
    """How many of those who have a say hold back."""
    outer = configured if of_cluster is None else of_cluster
    return sum(mode is OBSERVE for mode in (outer, *says)) + pauses + trips


THREE_MODES = list(product(ANY_MODE, repeat=3))


@pytest.mark.parametrize("configured", list(Mode))
def test_every_combination_for_a_node(configured: Mode) -> None:
    for (of_cluster, own, label), flags in product(THREE_MODES, product(EITHER, repeat=5)):
        all_paused, all_tripped, ignored, paused, tripped = flags
        effective = modes.of_node(
            node(own, label, ignored=ignored, paused=paused, tripped=tripped),
            cluster(of_cluster, paused=all_paused, tripped=all_tripped),
            configured,
        )
        pauses = all_paused + ignored + paused
        held = holding(
            configured, of_cluster, own, label, pauses=pauses, trips=all_tripped + tripped
        )
        assert effective.mode is (OBSERVE if held else ENFORCE)
        assert effective.paused is (pauses > 0)
        if held:
            assert len(effective.reasons) == held, "who lifts one must know of the others"
        else:
            assert effective.reasons


@pytest.mark.parametrize("configured", list(Mode))
def test_every_combination_for_a_network(configured: Mode) -> None:
    for (of_cluster, own, label), flags in product(THREE_MODES, product(EITHER, repeat=4)):
        all_paused, all_tripped, ignored, paused = flags
        row = network(own, label, ignored=ignored, paused=paused)
        alone = modes.of_network(row)
        held = (own, label).count(OBSERVE) + ignored + paused
        assert alone.mode is (OBSERVE if held else ENFORCE)
        assert alone.paused is (ignored or paused)

        anywhere = modes.of_target(
            row, cluster(of_cluster, paused=all_paused, tripped=all_tripped), configured
        )
        pauses = all_paused + ignored + paused
        held = holding(configured, of_cluster, own, label, pauses=pauses, trips=int(all_tripped))
        assert anywhere.mode is (OBSERVE if held else ENFORCE)
        assert anywhere.paused is (pauses > 0)
        assert len(anywhere.reasons) == held or not held


@pytest.mark.parametrize(
    ("effective", "reason"),
    [
        (modes.of_cluster(cluster(), ENFORCE), "set in the controller's settings"),
        (modes.of_cluster(cluster(), OBSERVE), "set in the controller's settings"),
        (modes.of_cluster(cluster(ENFORCE), OBSERVE), "set manually on the cluster"),
        (modes.of_cluster(cluster(paused=True), ENFORCE), "the cluster is paused by alice"),
        (
            modes.of_cluster(cluster(tripped=True), ENFORCE),
            "the breaker of the cluster tripped: too many; see `vxctl breaker`",
        ),
        (
            modes.of_node(node(paused=True), cluster(), ENFORCE),
            "node one is paused by bob: a new disk",
        ),
        (
            modes.of_node(node(OBSERVE, ignored=True), cluster(OBSERVE), ENFORCE),
            (
                "Swarm label vxlan-operator.ignore on node one; set manually on node one; "
                "set manually on the cluster"
            ),
        ),
        (
            modes.of_node(node(label=OBSERVE, tripped=True), cluster(), ENFORCE),
            (
                "the breaker of node one tripped: too fast; see `vxctl breaker`; "
                "Swarm label vxlan-operator.mode on node one"
            ),
        ),
        (
            modes.of_node(node(ENFORCE), cluster(), ENFORCE),
            "set in the controller's settings; set manually on node one",
        ),
        (
            modes.of_network(network(label=OBSERVE)),
            "Swarm label vxlan-operator.mode on network shop",
        ),
        (modes.of_network(network(paused=True)), "network shop is paused by carol"),
        (modes.of_network(network()), ""),
    ],
)
def test_who_says_so(effective: modes.EffectiveMode, reason: str) -> None:
    assert effective.reason == reason
