"""Places, identities and evidence, as they are shown and as they cross the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.messages import DeviceIdentity
from tests.builders import addressed, identity, in_sandbox, leaked
from worker.kernel.model import (
    HOST,
    Device,
    Identity,
    Netns,
    VxlanFlag,
)

places = st.builds(Netns, st.none() | st.integers(0, 2**31 - 1))


@given(netns=places)
def test_a_place_survives_being_written(netns: Netns) -> None:
    assert Netns.parse(str(netns)) == netns


@given(
    netns=places,
    ifindex=st.integers(1, 2**31 - 1),
    # As `worker.kernel.rtnetlink` decodes them: any bytes but NUL, at most 15.
    name=st.lists(st.integers(1, 255), min_size=1, max_size=15).map(
        lambda raw: bytes(raw).decode("utf-8", "backslashreplace")
    ),
    vni=st.integers(0, 2**24 - 1),
    port=st.integers(0, 2**16 - 1),
)
def test_any_identity_that_a_kernel_can_show_survives_the_wire(
    netns: Netns, ifindex: int, name: str, vni: int, port: int
) -> None:
    shown = Identity(netns, ifindex, name, vni, port)
    sent = shown.message().model_dump_json()
    assert Identity.of(DeviceIdentity.model_validate_json(sent)) == shown


@pytest.mark.parametrize(
    ("device", "evidence"),
    [
        (leaked(), "DOWN, no master, no address, VXLAN flags learning proxy l2miss l3miss"),
        (
            addressed(leaked())._replace(up=True, flags=VxlanFlag(0), born_elsewhere=True),
            (
                "UP, no master, addresses 192.0.2.1/24, VXLAN flags none, "
                "created in another namespace than the host's"
            ),
        ),
        (
            in_sandbox(endpoints=2),
            (
                "UP, master ifindex 2, 2 endpoint(s) in its sandbox (veth0, veth1), "
                "VXLAN flags learning proxy l2miss l3miss"
            ),
        ),
        (
            in_sandbox(endpoints=0)._replace(ipv6=True, kept_apart=True),
            (
                "UP, master ifindex 2, 0 endpoint(s) in its sandbox, "
                "VXLAN flags learning proxy l2miss l3miss, IPv6 underlay, "
                "receive flags that Docker does not set"
            ),
        ),
    ],
)
def test_the_evidence_is_told_in_words(device: Device, evidence: str) -> None:
    assert device.evidence == evidence


@pytest.mark.parametrize("words", ["evidence", "activity"])
def test_of_many_ports_and_addresses_some_are_named_and_the_rest_counted(words: str) -> None:
    crowded = getattr(in_sandbox(endpoints=8), words)
    assert "veth3, veth4 and 3 more" in crowded
    assert "veth5" not in crowded
    full = addressed(leaked(), *(f"192.0.2.{number}/24" for number in range(1, 7)))
    assert "192.0.2.4/24, 192.0.2.5/24 and 1 more" in getattr(full, words)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((), False),
        (("fe80::1/64",), True),
        (("169.254.3.4/16", "fe80::1/64"), True),
        (("febf::1/64",), True),
        (("fec0::1/64",), False),
        (("169.253.0.1/16",), False),
        (("fe80::1/64", "10.0.0.1/24"), False),
        (("2001:db8::1/64",), False),
    ],
)
def test_addresses_that_come_by_themselves_are_told_from_others(
    addresses: tuple[str, ...], expected: bool
) -> None:
    device = leaked()._replace(addressed=bool(addresses), addresses=addresses)
    assert device.set_up_by_others is expected


FE80 = "fe80::1/64"


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (leaked(), False),
        (leaked()._replace(up=True), True),
        (addressed(leaked(), FE80), True),
        (addressed(leaked(), FE80)._replace(up=True), True),
        (addressed(leaked(), FE80, "192.0.2.1/24")._replace(up=True), False),
        (addressed(leaked(), "192.0.2.1/24"), False),
        (leaked()._replace(up=True, master=2), False),
        (addressed(leaked(), FE80)._replace(master=2), False),
        (in_sandbox(endpoints=0)._replace(master=None), False),
        (in_sandbox(endpoints=0), False),
    ],
    ids=[
        "DOWN",
        "UP",
        "link-local",
        "UP, link-local",
        "UP, a real address besides",
        "a real address",
        "UP, enslaved",
        "link-local, enslaved",
        "UP in a sandbox",
        "UP, enslaved in a sandbox",
    ],
)
def test_what_others_set_up_to_no_purpose_is_told_from_what_is_in_use(
    device: Device, expected: bool
) -> None:
    assert device.set_up_by_others is expected
    assert not expected or device.activity is not None, "it carries something all the same"


def test_an_identity_is_told_in_words() -> None:
    assert str(identity()) == "vx-001002-n0fxr (ifindex 7, VNI 4098, UDP port 4789) in host"
    assert HOST.is_host
    assert not Netns(0).is_host
