"""The messages: what fits comes through whole, what does not is a ValidationError and nothing else."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.messages import (
    DeviceReport,
    Drift,
    Message,
    NetworkRef,
    ReconcileReport,
    ReconcileRequest,
    Stamp,
)
from contract.verdicts import Urgency, Verdict
from tests.builders import EPOCH, NODE, identity, leaked, network, request

MESSAGES: list[type[Message]] = [ReconcileRequest, ReconcileReport, Drift]

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def as_sent() -> dict[str, Any]:
    """A good request, as Celery hands it over."""
    return request(desired=[network()], known=[network(5, name="old")]).model_dump(mode="json")


def drift() -> dict[str, Any]:
    return Drift(
        node_id=NODE,
        at=EPOCH,
        devices=(identity().message(),),
        stamp=Stamp(session=uuid4(), seconds=1),
    ).model_dump(mode="json")


@pytest.mark.parametrize("kind", MESSAGES)
@given(value=json_values)
def test_anything_at_all_is_refused_with_a_validation_error(
    kind: type[Message], value: object
) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(value)


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_list_of_nonsense_is_refused_at_the_first_of_it(kind: type[Message]) -> None:
    """Each error takes time and a kilobyte, and a message of 80 kB has room for 80,000 of them."""
    lists = [name for name, field in kind.model_fields.items() if "tuple" in str(field.annotation)]
    assert lists
    for name in lists:
        with pytest.raises(ValidationError) as refused:
            kind.model_validate({name: [{}] * 5})
        of_it = [error for error in refused.value.errors() if error["loc"][0] == name]
        assert len({error["loc"][1:2] for error in of_it} - {()}) == 1, name


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_refused_with_a_validation_error(
    kind: type[Message], data: bytes | str
) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate_json(data)


@given(field=st.sampled_from(sorted(as_sent())), value=json_values)
def test_a_request_with_one_field_of_anything_is_a_request_or_a_validation_error(
    field: str, value: object
) -> None:
    at_fault: set[object] = set()
    try:
        ReconcileRequest.model_validate(as_sent() | {field: value})
    except ValidationError as error:
        at_fault = {each["loc"][0] for each in error.errors()}
    assert at_fault <= {field}


def test_a_request_survives_the_wire_and_unknown_fields_of_a_newer_side_are_ignored() -> None:
    sent = as_sent()
    received = ReconcileRequest.model_validate(sent | {"colour": "blue"})
    assert received.model_dump(mode="json") == sent


def change(**fields: object) -> Callable[[], dict[str, Any]]:
    return lambda: as_sent() | fields


def without(field: str) -> Callable[[], dict[str, Any]]:
    return lambda: {name: value for name, value in as_sent().items() if name != field}


def with_network(**fields: object) -> Callable[[], dict[str, Any]]:
    return change(desired=[network().model_dump(mode="json") | fields])


@pytest.mark.parametrize(
    "message",
    [
        change(version=2),
        change(node_id="short"),
        change(node_id=NODE + "\n"),
        change(node_id=NODE.upper()),
        change(node_id="../" + NODE[3:]),
        change(run_id="1"),
        change(generation=-1),
        change(issued_at="2030-01-01T00:00:00"),
        change(deadline="tomorrow"),
        change(mode="destroy"),
        change(data_path_port=65536),
        change(data_path_port=-1),
        change(desired=[{}]),
        change(desired=[network().model_dump(mode="json")] * 20_001),
        change(acknowledged={"journal_id": str(uuid4()), "through": -1}),
        with_network(vnis=[2**24]),
        with_network(vnis=[-1]),
        with_network(vnis=["x"]),
        with_network(name="n" * 256),
        with_network(id="n" * 26),
        without("run_id"),
        without("deadline"),
        without("desired"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(message: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        ReconcileRequest.model_validate(message())


@pytest.mark.parametrize(
    "fields",
    [
        {"netns": "nsid:"},
        {"netns": "nsid:-1"},
        {"netns": "nsid:٣"},
        {"netns": "nsid:12345678901"},
        {"netns": "moon"},
        {"netns": "host\n"},
        {"ifindex": 0},
        {"ifindex": 2**31},
        {"name": ""},
        {"name": "n" * 61},
        {"vni": 2**24},
        {"port": 2**16},
    ],
    ids=str,
)
def test_an_identity_that_no_kernel_gives_is_refused(fields: dict[str, object]) -> None:
    sent = drift()
    Drift.model_validate(sent)
    sent["devices"][0] |= fields
    with pytest.raises(ValidationError):
        Drift.model_validate(sent)


@pytest.mark.parametrize("count", [0, 101])
def test_a_drift_hint_names_some_devices_and_not_too_many(count: int) -> None:
    with pytest.raises(ValidationError):
        Drift.model_validate(drift() | {"devices": drift()["devices"] * count})


def reported(verdict: Verdict, urgency: Urgency | None, *, removed: bool = False) -> DeviceReport:
    return DeviceReport(
        identity=leaked().identity.message(),
        verdict=verdict,
        urgency=urgency,
        reason="",
        evidence="",
        removed=removed,
    )


@pytest.mark.parametrize("verdict", Verdict)
def test_an_orphan_has_an_urgency_and_nothing_else_has(verdict: Verdict) -> None:
    right, wrong = (Urgency.STALE, None) if verdict is Verdict.ORPHAN else (None, Urgency.STALE)
    reported(verdict, right)
    with pytest.raises(ValidationError):
        reported(verdict, wrong)


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.ORPHAN])
def test_only_an_orphan_can_have_been_removed(verdict: Verdict) -> None:
    reported(Verdict.ORPHAN, Urgency.STALE, removed=True)
    with pytest.raises(ValidationError):
        reported(verdict, None, removed=True)


def test_a_message_cannot_be_changed() -> None:
    ref: NetworkRef = network()
    with pytest.raises(ValidationError):
        ref.name = "other"  # type: ignore[misc]
