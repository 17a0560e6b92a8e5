"""Which orphans a run may remove: everybody who has a say can only take away."""

import pytest

from contract.messages import NetworkRef, ReconcileRequest
from contract.verdicts import Mode, Urgency, Verdict
from tests.builders import identity, leaked, network, request
from worker.allowance import Allowance, allowance
from worker.judge import Judgement

OBSERVED = Mode.OBSERVE


def orphan(vni: int, urgency: Urgency = Urgency.UNKNOWN) -> Judgement:
    """An orphan of this VNI."""
    device = leaked(identity(ifindex=vni, vni=vni, name=f"vx-{vni:06x}-n0fxr"))
    return Judgement(device, Verdict.ORPHAN, "reason", urgency)


def decide(
    orphans: list[Judgement],
    asked: ReconcileRequest,
    *,
    mode: Mode = Mode.ENFORCE,
    max_removals: int = 100,
    journal_full: bool = False,
) -> Allowance:
    """Decide, with a node that allows everything unless told."""
    return allowance(
        orphans, asked, mode=mode, max_removals=max_removals, journal_full=journal_full
    )


def vnis(allowed: Allowance) -> list[int]:
    """Whose orphans may go."""
    return [each.device.identity.vni for each in allowed.remove]


def test_without_orphans_there_is_nothing_to_say() -> None:
    asked = request(mode=Mode.OBSERVE, max_removals=0)
    assert decide([], asked, journal_full=True) == Allowance([], [])


def test_without_limits_all_go() -> None:
    allowed = decide([orphan(1), orphan(2)], request(desired=[network(1)]))
    assert vnis(allowed) == [1, 2]
    assert (allowed.limitations, allowed.more) == ([], False)


@pytest.mark.parametrize(
    ("desired", "known", "left"),
    [
        pytest.param([], [network(1, mode=OBSERVED)], [2, 3], id="known"),
        pytest.param([network(1, mode=OBSERVED)], [], [2, 3], id="desired"),
        pytest.param([], [network(1, 3, mode=OBSERVED)], [2], id="each of its subnets"),
        pytest.param(
            [network(1)], [network(1, mode=OBSERVED)], [2, 3], id="shares its VNI with another"
        ),
        pytest.param(
            [network(1, mode=OBSERVED)], [network(1)], [2, 3], id="another shares its VNI"
        ),
        pytest.param([], [network(9, mode=OBSERVED)], [1, 2, 3], id="without a device here"),
    ],
)
def test_orphans_of_an_observed_network_are_left_alone(
    desired: list[NetworkRef], known: list[NetworkRef], left: list[int]
) -> None:
    asked = request().model_copy(update={"desired": tuple(desired), "known": tuple(known)})
    assert vnis(decide([orphan(1), orphan(2), orphan(3)], asked)) == left


def test_an_orphan_of_no_network_follows_the_request() -> None:
    known = [network(1, mode=Mode.ENFORCE)]
    assert vnis(decide([orphan(5)], request(known=known))) == [5]
    assert vnis(decide([orphan(5)], request(known=known, mode=OBSERVED))) == []


def test_what_is_left_alone_is_told_with_a_few_names() -> None:
    networks = [network(vni, name=f"net{vni}", mode=OBSERVED) for vni in range(1, 8)]
    allowed = decide([orphan(vni) for vni in range(1, 8)], request(desired=networks))
    (limitation,) = allowed.limitations
    assert limitation.startswith(
        "7 orphan(s) left alone: the mode of their network is observe (net1, "
    )
    assert limitation.endswith("net4, net5 and 2 more)")


def test_what_an_observed_network_leaves_takes_no_room() -> None:
    """Neither of the run's limit nor of the budget."""
    asked = request(known=[network(1, mode=OBSERVED)], max_removals=1)
    allowed = decide([orphan(1, Urgency.BLOCKING), orphan(2)], asked, max_removals=1)
    assert vnis(allowed) == [2]
    assert len(allowed.limitations) == 1
    assert not allowed.more


@pytest.mark.parametrize(
    ("own", "budget", "removed", "more", "words"),
    [
        (100, 3, 3, False, None),
        (3, 5, 3, False, None),
        (2, 3, 2, True, "1 orphan(s) left for the next run: at most 2 removals a run"),
        (2, 2, 2, True, "1 orphan(s) left for the next run: at most 2 removals a run"),
        (2, 1, 1, False, "2 orphan(s) left alone: the breaker allows this node 1 more removal"),
        (100, 0, 0, False, "3 orphan(s) left alone: the breaker allows this node 0 more remov"),
    ],
)
def test_the_lower_of_the_nodes_own_limit_and_the_controllers_budget(
    own: int, budget: int, removed: int, more: bool, words: str | None
) -> None:
    asked = request(max_removals=budget)
    allowed = decide([orphan(1), orphan(2), orphan(3)], asked, max_removals=own)
    assert (len(allowed.remove), allowed.more) == (removed, more)
    if words is None:
        assert allowed.limitations == []
    else:
        assert allowed.limitations[0].startswith(words)


def test_the_most_urgent_go_first() -> None:
    urgencies = [Urgency.UNKNOWN, Urgency.STALE, Urgency.BLOCKING]
    orphans = [orphan(number, urgency) for number, urgency in enumerate(urgencies, start=1)]
    assert vnis(decide(orphans, request(max_removals=2))) == [3, 2]


def test_a_full_journal_stops_all() -> None:
    allowed = decide(
        [orphan(1), orphan(2)], request(desired=[network(1, mode=OBSERVED)]), journal_full=True
    )
    assert vnis(allowed) == []
    assert [limit.split(":")[0] for limit in allowed.limitations] == ["1 orphan(s) left alone"] * 2
