"""Places, identities and evidence, as they are shown and as they cross the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.messages import DeviceIdentity
from tests.builders import identity, in_sandbox, leaked
from worker.view import HOST, Device, Identity, Place, VxlanFlag

places = st.builds(Place, st.none() | st.integers(0, 2**31 - 1))


@given(place=places)
def test_a_place_survives_being_written(place: Place) -> None:
    assert Place.parse(str(place)) == place


@given(
    place=places,
    ifindex=st.integers(1, 2**31 - 1),
    # As `worker.kernel` decodes them: any bytes but NUL, at most 15.
    name=st.lists(st.integers(1, 255), min_size=1, max_size=15).map(
        lambda raw: bytes(raw).decode("utf-8", "backslashreplace")
    ),
    vni=st.integers(0, 2**24 - 1),
    port=st.integers(0, 2**16 - 1),
)
def test_any_identity_that_a_kernel_can_show_survives_the_wire(
    place: Place, ifindex: int, name: str, vni: int, port: int
) -> None:
    shown = Identity(place, ifindex, name, vni, port)
    sent = shown.message().model_dump_json()
    assert Identity.of(DeviceIdentity.model_validate_json(sent)) == shown


@pytest.mark.parametrize(
    ("device", "evidence"),
    [
        (leaked(), "DOWN, no master, no address, VXLAN flags learning proxy l2miss l3miss"),
        (
            leaked()._replace(up=True, addressed=True, flags=VxlanFlag(0), foreign_birth=True),
            (
                "UP, no master, has an address, VXLAN flags none, "
                "created in another namespace than the host's"
            ),
        ),
        (
            in_sandbox(endpoints=2),
            (
                "UP, master ifindex 2, 2 endpoint(s) on its bridge, "
                "VXLAN flags learning proxy l2miss l3miss"
            ),
        ),
    ],
)
def test_the_evidence_is_told_in_words(device: Device, evidence: str) -> None:
    assert device.evidence == evidence


def test_an_identity_is_told_in_words() -> None:
    assert str(identity()) == "vx-001002-n0fxr (ifindex 7, VNI 4098, UDP port 4789) in host"
    assert HOST.is_host
    assert not Place(0).is_host
