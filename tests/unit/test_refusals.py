"""For how long a request may be good: no longer than a controller that is set up so makes them."""

from datetime import timedelta
from pathlib import Path

import pytest

from contract.verdicts import Outcome
from controller.process.settings import ControllerSettings
from controller.runs.requests import CLOCKS_MAY_DIFFER
from tests.builders import EPOCH, request
from tests.worker_node import WorkerNode
from worker.reconcile import MAX_REQUEST_LIFETIME

ASKED_AT = EPOCH + timedelta(days=400)


def outcome(folder: Path, *, age: timedelta, lifetime: timedelta) -> Outcome:
    """What comes of a request of such an age."""
    node = WorkerNode(folder)
    node.seconds = ASKED_AT.timestamp() - EPOCH.timestamp()
    return node.reconciler.run(request(issued_at=ASKED_AT - age, lifetime=lifetime)).outcome


@pytest.mark.parametrize("age", [timedelta(0), timedelta(seconds=1), timedelta(days=399)])
@pytest.mark.parametrize("beyond", [timedelta(microseconds=1), timedelta(days=3650)])
def test_a_request_that_is_good_for_too_long_is_refused(
    tmp_path: Path, age: timedelta, beyond: timedelta
) -> None:
    lifetime = max(MAX_REQUEST_LIFETIME, age) + beyond
    assert outcome(tmp_path, age=age, lifetime=lifetime) is Outcome.REFUSED


@pytest.mark.parametrize("age", [timedelta(0), timedelta(seconds=1), MAX_REQUEST_LIFETIME])
def test_a_request_is_good_until_its_deadline(tmp_path: Path, age: timedelta) -> None:
    assert outcome(tmp_path, age=age, lifetime=MAX_REQUEST_LIFETIME) is Outcome.DONE


def test_no_setting_of_the_controller_makes_requests_that_are_refused() -> None:
    (longest,) = [
        each.le
        for each in ControllerSettings.model_fields["run_timeout_seconds"].metadata
        if hasattr(each, "le")
    ]
    assert timedelta(seconds=longest) + CLOCKS_MAY_DIFFER <= MAX_REQUEST_LIFETIME
