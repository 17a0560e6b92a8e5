"""A manager that answers and cannot read its Swarm: locked, or without a quorum; told in Docker's words."""

import re

import pytest

from contract.runtime.dockerd import Docker
from contract.runtime.doctor import docker
from tests.lab import Lab, LabError, Node
from tests.lab.dockerd import DATA_ROOT
from tests.lab.wait import wait_until
from tests.servers import await_true
from tests.stack import Stack
from tests.swarm.services import make_network

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(300)]

_NOTICED_SECONDS = 90.0
"""A leader steps down after some 20 s without its peer, and until then dockerd hangs or answers as before."""


def desired_state_known(stack: Stack) -> tuple[str, str]:
    """Return reason and message of the condition."""
    cluster = stack.ask("/api/v1/status")["cluster"]
    return next(
        (row["reason"], row["message"])
        for row in cluster["conditions"]
        if row["type"] == "DesiredStateKnown"
    )


def test_a_manager_that_cannot_read_its_swarm_is_said_to_be_that(lab: Lab, stack: Stack) -> None:
    _locked(lab, stack)
    make_network(lab, "unlocked")
    _without_quorum(lab, stack, lab.nodes[1])
    await_true(lambda: desired_state_known(stack)[0] == "SwarmRead", "it is read again")


def _locked(lab: Lab, stack: Stack) -> None:
    manager = lab.manager
    said = manager.docker("swarm", "update", "--autolock=true")
    found = re.search(r"SWMKEY-\S+", said)
    assert found is not None, said
    _await_key(manager, encrypted=True)
    try:
        manager.restart_dockerd()
        await_true(lambda: "'locked'" in desired_state_known(stack)[1], "it is said to be locked")
        reason, message = desired_state_known(stack)
        assert reason == "SwarmUnreadable"
        assert "Swarm is encrypted and needs to be unlocked" in message
        assert "`docker swarm unlock` on this manager" in message
        assert [
            (row.level, row.message.partition(":")[0])
            for row in docker.check(Docker(manager.docker_host), manager=True)
            if row.check == "swarm"
        ] == [("fail", "locked")]
    finally:
        manager.api.post("/swarm/unlock", {"UnlockKey": found.group()})
        manager.docker("swarm", "update", "--autolock=false")
        _await_key(manager, encrypted=False)
        # Docker's unlock tells libnetwork that the node leaves the Swarm, and at once that it joins it.
        # Mostly the leave is dealt with last (agentClose after SetClusterProvider): until its next start
        # dockerd then has no overlay networks, and refuses new ones as if it was no manager.
        manager.restart_dockerd()
        lab.wait_ready()


def _await_key(manager: Node, *, encrypted: bool) -> None:
    """Wait until dockerd will start locked, or not; `docker swarm update` does not."""
    file = f"{DATA_ROOT}/swarm/certificates/swarm-node.key"
    wait_until(
        lambda: ("ENCRYPTED" in manager.run(["cat", file], inside=True).stdout) is encrypted,
        60.0,
        f"the key of the manager is {'' if encrypted else 'not '}encrypted",
    )


def _without_quorum(lab: Lab, stack: Stack, second: Node) -> None:
    """One of two managers is gone, so the other one has no majority."""
    lab.manager.docker("node", "promote", second.name)
    wait_until(lambda: "Reachable" in _managers(lab), 60.0, "the second manager is one")
    # One that is killed before it knows that itself comes back as a worker, and the quorum never does.
    wait_until(
        lambda: second.docker("info", "--format", "{{.Swarm.ControlAvailable}}").strip() == "true",
        60.0,
        "the second manager knows that it is one",
    )
    second.kill_dockerd()
    try:
        await_true(
            # Of one reading: a manager without a quorum has several words for it, in turns.
            lambda: lost_quorum(*desired_state_known(stack)),
            "the lost quorum is told",
            _NOTICED_SECONDS,
        )
    finally:
        second.start_dockerd()
        wait_until(lambda: "Reachable" in _managers(lab), 90.0, "both managers are back")
        lab.manager.docker("node", "demote", second.name)
        lab.wait_ready()


def lost_quorum(reason: str, message: str) -> bool:
    """Whether the condition says that there is no majority, and what to do."""
    told = ("have a leader", "bring back enough managers")
    return reason == "SwarmUnreadable" and all(words in message for words in told)


def _managers(lab: Lab) -> str:
    try:
        return lab.manager.docker("node", "ls", "--format", "{{.ManagerStatus}}")
    except LabError as error:
        return str(error)  # There is no leader for a while.
