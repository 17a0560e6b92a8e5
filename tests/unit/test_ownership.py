"""Which VXLAN devices are Docker's own, by every mark."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import ALL_FLAGS, PORT, SANDBOX, identity, leaked
from worker.kernel.model import HOST, Netns, VxlanFlag
from worker.ownership import network_prefix, why_foreign


@pytest.mark.parametrize(
    ("netns", "name"),
    [
        (HOST, "vx-001002-n0fxr"),
        (SANDBOX, "vxlan0"),
        (SANDBOX, "vxlan12"),
        (SANDBOX, "vx-001002-n0fxr"),
    ],
    ids=["host", "sandbox", "sandbox, second subnet", "sandbox, not yet renamed"],
)
def test_a_device_with_every_mark_of_docker_is_dockers(netns: Netns, name: str) -> None:
    assert why_foreign(leaked(identity(netns=netns, name=name)), PORT) is None


@pytest.mark.parametrize(
    ("name", "vni"),
    [
        ("vx-R1-e1-vx", 0x1002),  # containerlab
        ("vx-submariner", 0x1002),
        ("vxlan.calico", 4096),
        ("flannel.1", 1),
        ("cilium_vxlan", 2),
        ("testvxlan", 1),  # Docker's own probe, up to 24.0: gone by itself
        ("vxlan0", 0x1002),  # Docker's name, but only in a sandbox
        ("vx-001002-n0fx", 0x1002),
        ("vx-001002-n0fxrr", 0x1002),
        ("vx-1002-n0fxr", 0x1002),
        ("vx-00100A-n0fxr", 0x100A),
        ("vx-001002-N0FXR", 0x1002),
        ("vx-001002-n0fxr\n", 0x1002),
        (" vx-001002-n0fxr", 0x1002),
        ("vx-001002-n0fx\\xff", 0x1002),
        ("vx-٠٠١٠٠٢-n0fxr", 0x1002),  # digits of another script
        ("'; drop table", 0x1002),
    ],
)
def test_in_the_host_namespace_a_name_that_docker_does_not_give_is_foreign(
    name: str, vni: int
) -> None:
    reason = why_foreign(leaked(identity(name=name, vni=vni)), PORT)
    assert reason is not None
    assert "name" in reason


@pytest.mark.parametrize("name", ["vxlan", "vxlan0a", "vxlan00000", "vxlan٣", "vxlan0\n", "vx0"])
def test_in_a_sandbox_a_name_that_docker_does_not_give_is_foreign(name: str) -> None:
    assert why_foreign(leaked(identity(netns=SANDBOX, name=name)), PORT) is not None


@pytest.mark.parametrize("netns", [HOST, SANDBOX], ids=str)
def test_a_name_that_says_another_vni_is_foreign(netns: Netns) -> None:
    reason = why_foreign(leaked(identity(netns=netns, vni=0x1003)), PORT)
    assert reason == "its name says VNI 4098, but it has 4099"


@pytest.mark.parametrize(("port", "data_path_port"), [(8472, 4789), (4789, 7789)])
def test_another_udp_port_than_the_swarms_is_foreign(port: int, data_path_port: int) -> None:
    device = leaked(identity(port=port))
    assert why_foreign(device, data_path_port) is not None
    assert why_foreign(device, port) is None


@pytest.mark.parametrize("flag", list(VxlanFlag), ids=lambda flag: str(flag.name))
def test_each_of_dockers_flags_is_needed(flag: VxlanFlag) -> None:
    device = leaked()._replace(flags=ALL_FLAGS & ~flag)
    assert why_foreign(device, PORT) == f"Docker would have set {str(flag.name).lower()}"


@pytest.mark.parametrize("netns", [HOST, SANDBOX], ids=str)
def test_a_device_created_in_another_namespace_is_foreign(netns: Netns) -> None:
    device = leaked(identity(netns=netns))._replace(born_elsewhere=True)
    assert why_foreign(device, PORT) is not None


@given(name=st.text(max_size=20))
def test_only_names_of_dockers_exact_form_have_a_network_prefix(name: str) -> None:
    exact = (
        len(name) == 15
        and name.startswith("vx-")
        and all(each in "0123456789abcdef" for each in name[3:9])
        and name[9] == "-"
        and all(each in string.digits + string.ascii_lowercase for each in name[10:])
    )
    assert network_prefix(name) == (name[10:] if exact else None)


def test_the_network_prefix_is_what_the_name_ends_in() -> None:
    assert network_prefix("vx-001002-n0fxr") == "n0fxr"
