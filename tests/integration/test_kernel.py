"""`RouteNetlink` against the real kernel, in private network namespaces."""

import json
import os
import re
from subprocess import CalledProcessError

import pytest

from tests.builders import ALL_FLAGS, NAME, PORT, VNI
from tests.integration.namespaces import KernelProcess, Namespace
from tests.servers import await_true
from worker.kernel.api import GoneError, KernelError, NotPermittedError
from worker.kernel.model import (
    HOST,
    Device,
    Netns,
    VethPair,
    VxlanFlag,
)

pytestmark = pytest.mark.privileged

NO_NET_ADMIN = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")

NO_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search",
               "--inh-caps", "-dac_override,-dac_read_search")  # fmt: skip


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    """A namespace that plays the host."""
    return Namespace(in_empty_namespace)


def the_only_device(kernel: KernelProcess) -> Device:
    (device,) = kernel.look().devices
    return device


def _kernel_version() -> tuple[int, int]:
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def ifindex_of(host: Namespace, name: str) -> int:
    (link,) = json.loads(host.ip(f"-j link show {name}"))
    return int(link["ifindex"])


def test_a_leaked_device_is_seen_with_all_its_marks_and_other_kinds_are_not(
    host: Namespace,
) -> None:
    host.add_vxlan(NAME, VNI)
    host.ip("link add br0 type bridge")
    with host.kernel() as kernel:
        view = kernel.look()
    (device,) = view.devices
    assert view.limitations == ()
    assert device.identity == (HOST, ifindex_of(host, NAME), NAME, VNI, PORT)
    assert device.flags == ALL_FLAGS
    assert device.activity is None
    assert not device.born_elsewhere


@pytest.mark.parametrize(
    ("steps", "carrying"),
    [
        ([], None),
        ([f"link set {NAME} addrgenmode none", f"link set {NAME} up"], "it is UP"),
        ([f"addr add 192.0.2.1/24 dev {NAME}"], "it has the IP address(es) 192.0.2.1/24"),
        (["link add br0 type bridge", f"link set {NAME} master br0"], "it is enslaved"),
    ],
    ids=["idle", "up", "addressed", "enslaved"],
)
def test_what_a_device_in_the_host_namespace_carries_is_seen(
    host: Namespace, steps: list[str], carrying: str | None
) -> None:
    host.add_vxlan(NAME, VNI)
    for step in steps:
        host.ip(step)
    with host.kernel() as kernel:
        seen = the_only_device(kernel)
        afresh = kernel.read(*seen.identity[:2])
    assert afresh == seen
    if carrying is None:
        assert seen.activity is None
    else:
        assert (seen.activity or "").startswith(carrying)


def test_a_device_that_somebody_set_up_has_a_link_local_address(host: Namespace) -> None:
    """As NetworkManager and systemd-networkd do with a leaked device."""
    host.add_vxlan(NAME, VNI)
    host.ip(f"link set {NAME} up")
    with host.kernel() as kernel:
        await_true(lambda: the_only_device(kernel).addressed, "the kernel gave it an address")
        device = the_only_device(kernel)
        (address,) = device.addresses
        assert address.startswith("fe80::")
        assert address.endswith("/64")
        assert device.set_up_by_others
        host.ip(f"addr add 192.0.2.1/24 dev {NAME}")
        host.ip(f"addr add 198.51.100.1 peer 198.51.100.2/32 dev {NAME}")
        device = the_only_device(kernel)
    assert set(device.addresses) == {address, "192.0.2.1/24", "198.51.100.1/32"}
    assert not device.set_up_by_others


def test_addresses_of_other_devices_are_not_taken_for_its_own(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.ip("link add br0 type bridge")
    host.ip("addr add 192.0.2.1/24 dev br0")
    with host.kernel() as kernel:
        assert the_only_device(kernel).addresses == ()


def test_a_device_over_ipv6_is_told_from_one_over_ipv4_of_the_same_vni(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.add_vxlan_over_ipv6("vx-001002-sixth", VNI)
    host.ip("netns add sandbox")
    host.add_vxlan_over_ipv6("vx-001003-other", 0x1003)
    host.ip("link set vx-001003-other netns sandbox name vxlan0")
    host.ip("-n sandbox link add br0 type bridge")
    host.ip("-n sandbox link set vxlan0 master br0 up")
    host.ip("link add with-group type vxlan id 9 dstport 4789 group ff05::1 dev lo")
    host.ip("link add with-local type vxlan id 10 dstport 4789 local ::1")
    with host.kernel() as kernel:
        shown = {each.identity.name: each.ipv6 for each in kernel.look().devices}
    # By the headroom alone, which older kernels do not show.
    docker_s = _kernel_version() >= (6, 18)
    assert shown == {
        NAME: False,
        "vx-001002-sixth": docker_s,
        "vxlan0": docker_s,
        "with-group": True,
        "with-local": True,
    }
    with pytest.raises(CalledProcessError):
        host.add_vxlan("vx-001002-again", VNI)


@pytest.mark.parametrize("option", ["gbp", "udp6zerocsumrx", "remcsumrx", "external"])
def test_a_device_whose_receive_flags_differ_is_apart_and_blocks_no_vni(
    host: Namespace, option: str
) -> None:
    where = "external" if option == "external" else f"id {VNI} {option}"
    host.ip(f"link add other type vxlan dstport {PORT} {where}")
    host.add_vxlan(NAME, VNI)  # "file exists" if the other held the VNI.
    with host.kernel() as kernel:
        shown = {each.identity.name: each.kept_apart for each in kernel.look().devices}
    assert shown == {"other": True, NAME: False}


def test_a_device_whose_sending_flags_differ_is_not_apart(host: Namespace) -> None:
    host.ip(f"link add other type vxlan id {VNI} dstport {PORT} remcsumtx udp6zerocsumtx noudpcsum")
    with host.kernel() as kernel:
        assert not the_only_device(kernel).kept_apart
    with pytest.raises(CalledProcessError):
        host.add_vxlan(NAME, VNI)


def test_flags_that_docker_sets_and_a_device_lacks_are_seen(host: Namespace) -> None:
    host.ip(f"link add {NAME} type vxlan id {VNI} dstport 8472 nolearning l2miss")
    with host.kernel() as kernel:
        device = the_only_device(kernel)
    assert device.flags == VxlanFlag.L2MISS
    assert device.identity.port == 8472


@pytest.mark.parametrize("endpoint", [True, False], ids=["with endpoint", "without endpoint"])
def test_a_sandbox_is_seen_from_outside_and_its_endpoints_are_counted(
    host: Namespace, endpoint: bool
) -> None:
    host.add_sandbox("sandbox", NAME, VNI, endpoint=endpoint)
    with host.kernel() as kernel:
        device = the_only_device(kernel)
        afresh = kernel.read(*device.identity[:2])
    assert afresh == device
    assert device.identity.name == "vxlan0"
    assert device.identity.vni == VNI
    assert not device.identity.netns.is_host
    assert device.up
    assert device.master is not None
    assert device.endpoints == (1 if endpoint else 0)
    assert device.ports == (("veth0",) if endpoint else ())
    assert (device.activity is not None) is endpoint
    assert not device.born_elsewhere, "created in the host namespace, as Docker does"


def test_a_device_without_the_bridge_of_its_sandbox_looks_dead(host: Namespace) -> None:
    """On the last leave dockerd deletes the bridge first, and may die before it deletes the device."""
    host.add_sandbox("sandbox", NAME, VNI, endpoint=True)
    host.ip("-n sandbox link delete br0")
    with host.kernel() as kernel:
        device = the_only_device(kernel)
    assert (device.up, device.master, device.endpoints) == (True, None, 0)
    assert device.looks_dead


@pytest.mark.parametrize("endpoint", [True, False])
def test_an_endpoint_keeps_every_device_of_its_sandbox_alive(
    host: Namespace, endpoint: bool
) -> None:
    """Docker makes the device of a second subnet for peers on other nodes too."""
    host.add_sandbox("sandbox", NAME, VNI, endpoint=endpoint)
    host.add_vxlan("vx-001003-n0fxr", 0x1003)
    host.ip("link set vx-001003-n0fxr netns sandbox name vxlan1")
    for words in ("add br1 type bridge", "set vxlan1 master br1 up", "set br1 up"):
        host.ip(f"-n sandbox link {words}")
    with host.kernel() as kernel:
        devices = kernel.look().devices
        alone = [kernel.read(each.identity.netns, each.identity.ifindex) for each in devices]
    assert {each.identity.name for each in devices} == {"vxlan0", "vxlan1"}
    for device in (*devices, *alone):
        assert device is not None
        assert device.looks_dead is not endpoint
        assert device.ports == (("veth0",) if endpoint else ())


def test_the_number_that_the_host_has_for_itself_lists_nothing_twice(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.add_sandbox("sandbox", "vx-001003-other", 0x1003, endpoint=False)
    with host.kernel() as kernel:
        kernel.look()  # The kernel numbers the host when it describes the sandbox's device.
        assert "nsid" in host.ip("netns list-id")
        again = [(device.identity.netns, device.identity.vni) for device in kernel.look().devices]
    assert len(again) == 2
    assert sorted(vni for _, vni in again) == [VNI, 0x1003]
    with host.kernel() as newcomer:
        assert len(newcomer.look().devices) == 2, "also in a process that begins afterwards"


@pytest.mark.parametrize("moved", [False, True], ids=["where it was born", "in its sandbox"])
def test_a_device_of_a_docker_inside_a_docker_is_of_foreign_birth(
    host: Namespace, moved: bool
) -> None:
    host.ip("netns add inner")
    host.ip("link add veth0 type veth peer name veth1 netns inner")
    host.add_vxlan(NAME, VNI, inside="inner")
    if moved:
        host.ip("netns add sandbox")
        host.ip("link add veth2 type veth peer name veth3 netns sandbox")
        host.ip(f"-n inner link set {NAME} netns sandbox")
    with host.kernel() as kernel:
        assert the_only_device(kernel).born_elsewhere, "while the host has no number for itself"
        host.add_sandbox("own", "vx-001003-other", 0x1003, endpoint=False)
        births = {each.identity.vni: each.born_elsewhere for each in kernel.look().devices}
    assert births == {VNI: True, 0x1003: False}


def test_a_device_born_in_a_peer_and_moved_to_the_host_is_of_foreign_birth(host: Namespace) -> None:
    host.ip("netns add inner")
    host.add_vxlan(NAME, VNI, inside="inner")
    host.ip(f"-n inner link set {NAME} netns {host.pid}")
    with host.kernel() as kernel:
        device = the_only_device(kernel)
    assert device.identity.netns == HOST
    assert device.born_elsewhere


@pytest.mark.parametrize("hidden", [False, True], ids=["host", "peer"])
def test_a_deleted_device_is_gone_and_its_vni_is_free(host: Namespace, hidden: bool) -> None:
    if hidden:
        host.add_sandbox("sandbox", NAME, VNI, endpoint=False)
    else:
        host.add_vxlan(NAME, VNI)
    with host.kernel() as kernel:
        device = the_only_device(kernel)
        where = device.identity.netns, device.identity.ifindex
        kernel.delete(*where)
        assert kernel.look().devices == ()
        assert kernel.read(*where) is None
        with pytest.raises(GoneError):
            kernel.delete(*where)
    host.add_vxlan(NAME, VNI)  # "file exists" if anything still holds the VNI.


@pytest.mark.parametrize("netns", [HOST, Netns(12345)], ids=["host", "no such namespace"])
def test_what_never_was_reads_as_none_and_cannot_be_deleted(host: Namespace, netns: Netns) -> None:
    with host.kernel() as kernel:
        assert kernel.read(netns, 4242) is None
        with pytest.raises(GoneError):
            kernel.delete(netns, 4242)


def test_another_kind_of_device_reads_as_none(host: Namespace) -> None:
    host.ip("link add br0 type bridge")
    with host.kernel() as kernel:
        assert kernel.read(HOST, ifindex_of(host, "br0")) is None


def test_a_device_that_the_kernel_does_not_delete_is_a_kernel_error(host: Namespace) -> None:
    with host.kernel() as kernel, pytest.raises(KernelError) as refusal:
        kernel.delete(HOST, ifindex_of(host, "lo"))
    assert not isinstance(refusal.value, GoneError | NotPermittedError)


def test_without_cap_net_admin_an_empty_list_is_never_told(host: Namespace) -> None:
    host.add_sandbox("sandbox", NAME, VNI, endpoint=False)
    with host.kernel(*NO_NET_ADMIN) as kernel:
        with pytest.raises(NotPermittedError):
            kernel.check_capability()
        with pytest.raises(NotPermittedError):
            kernel.look()
    with host.kernel() as permitted:
        permitted.check_capability()


def test_without_cap_net_admin_nothing_is_deleted(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    with host.kernel(*NO_NET_ADMIN) as kernel:
        with pytest.raises(NotPermittedError):
            kernel.delete(HOST, ifindex_of(host, NAME))
        assert the_only_device(kernel).identity.name == NAME


def test_a_namespace_that_ends_takes_its_devices_and_breaks_no_look(host: Namespace) -> None:
    host.add_sandbox("sandbox", NAME, VNI, endpoint=True)
    with host.kernel() as kernel:
        device = the_only_device(kernel)
        host.ip("netns del sandbox")
        # The kernel ends a namespace some time after its last holder has gone.
        await_true(lambda: not kernel.look().devices, "the device went with its namespace")
        assert kernel.read(device.identity.netns, device.identity.ifindex) is None


def test_a_name_that_is_no_utf8_is_shown_as_escapes(host: Namespace) -> None:
    host.run("sh", "-c", 'exec ip link add "$(printf "vx-\\377")" type vxlan id 9 dstport 4789')
    with host.kernel() as kernel:
        assert the_only_device(kernel).identity.name == "vx-\\xff"


def test_a_look_agrees_with_ip_on_every_device(host: Namespace) -> None:
    for number in range(40):
        host.add_vxlan(f"vx-{0x2000 + number:06x}-abcde", 0x2000 + number, port=4789 + number % 3)
    with host.kernel() as kernel:
        ours = {each.identity[1:] for each in kernel.look().devices}
    theirs = {
        (
            link["ifindex"],
            link["ifname"],
            link["linkinfo"]["info_data"]["id"],
            link["linkinfo"]["info_data"]["port"],
        )
        for link in json.loads(host.ip("-d -j link show type vxlan"))
    }
    assert ours == theirs
    assert len(theirs) == 40


def test_a_link_group_holds_devices_of_every_kind_and_goes_at_once(host: Namespace) -> None:
    group = 77_777
    host.add_vxlan(NAME, VNI)
    host.add_vxlan("vx-001003-n0fxr", 0x1003)
    host.ip("link add br7 type bridge")
    host.ip("link add br8 type bridge")
    names = (NAME, "vx-001003-n0fxr", "br7")
    with host.kernel() as kernel:
        for name in names:
            kernel.set_group(ifindex_of(host, name), group)
        assert kernel.group_members(group) == {ifindex_of(host, name) for name in names}
        assert {device.identity.name for device in kernel.look_at(HOST)} == set(names[:2])
        kernel.set_group(ifindex_of(host, "br7"), 0)
        kernel.delete_group(group)
        assert kernel.look_at(HOST) == ()
        assert kernel.group_members(group) == frozenset()
    assert "br7" in host.ip("link show")
    assert "br8" in host.ip("link show")


def test_one_place_can_be_looked_at_alone(host: Namespace) -> None:
    host.add_sandbox("dead", NAME, VNI, endpoint=False)
    host.add_vxlan("vx-001003-n0fxr", 0x1003)
    with host.kernel() as kernel:
        everything = kernel.look().devices
        for device in everything:
            assert kernel.look_at(device.identity.netns) == (device,)
        assert kernel.look_at(Netns(4242)) == ()


ONE, OTHER = "veth0a1b2c3", "vethfedcba9"


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([f"link add {ONE} type veth peer name {OTHER}"], True),
        ([f"link add {OTHER} type veth peer name {ONE}"], True),
        (
            [
                f"link add {ONE} type veth peer name {OTHER} netns sandbox",
                "link add br0 type bridge",
                f"link set {ONE} master br0",
            ],
            False,
        ),
        (
            [
                f"link add {ONE} type veth peer name {OTHER}",
                "link add br0 type bridge",
                f"link set {OTHER} master br0",
            ],
            False,
        ),
        ([f"link add {ONE} type veth peer name eth0"], False),
        ([f"link add {ONE}4 type veth peer name {OTHER}"], False),
        (["link add veth0 type veth peer name veth1"], False),
        ([f"link add {ONE} type bridge", f"link add {OTHER} type bridge"], False),
        ([], False),
    ],
    ids=[
        "both ends at home",
        "the other way round",
        "the end of a bridge network, whose container has the other",
        "one end enslaved",
        "one end named by somebody else",
        "a longer name",
        "names of somebody else",
        "another kind",
        "nothing",
    ],
)
def test_a_container_that_is_joining_shows_as_a_pair_at_home(
    host: Namespace, steps: list[str], found: bool
) -> None:
    host.ip("netns add sandbox")
    for step in steps:
        host.ip(step)
    with host.kernel() as kernel:
        pairs = kernel.joins_under_way()
    if not found:
        assert pairs == ()
        return
    ((one, other, ifindexes),) = pairs
    assert {one, other} == {ONE, OTHER}
    assert ifindexes == (ifindex_of(host, one), ifindex_of(host, other))


def test_pairs_that_join_at_the_same_time_are_not_mixed_up(host: Namespace) -> None:
    pairs = {(f"veth{number:07x}", f"veth{number + 16:07x}") for number in range(3)}
    for one, other in pairs:
        host.ip(f"link add {one} type veth peer name {other}")
    with host.kernel() as kernel:
        found = {tuple(sorted(pair[:2])) for pair in kernel.joins_under_way()}
    assert found == pairs


def test_a_join_shows_until_the_sandbox_has_an_endpoint(host: Namespace) -> None:
    """Docker's steps: an end that was moved into the sandbox is on no bridge yet, and no endpoint."""
    host.add_sandbox("sandbox", NAME, VNI, endpoint=False)
    host.ip("netns add container")
    host.ip(f"link add {ONE} type veth peer name {OTHER}")
    half = (VethPair(OTHER, "", (ifindex_of(host, OTHER), 0)),)
    with host.kernel() as kernel:
        assert len(kernel.joins_under_way()) == 1
        host.ip(f"link set {ONE} netns sandbox")
        assert (kernel.joins_under_way(), the_only_device(kernel).endpoints) == (half, 0)
        host.ip(f"-n sandbox link set {ONE} master br0")
        assert (kernel.joins_under_way(), the_only_device(kernel).endpoints) == (half, 1)
        host.ip(f"link set {OTHER} netns container")
        assert (kernel.joins_under_way(), the_only_device(kernel).endpoints) == ((), 1)


DOCKERS_DIRECTORY = "/run/docker/netns"


def mount_sandbox(host: Namespace, namespace: str, name: str) -> None:
    """Mount a namespace of `ip netns` where Docker would."""
    host.run("mkdir", "-p", DOCKERS_DIRECTORY)
    host.run("touch", f"{DOCKERS_DIRECTORY}/{name}")
    host.run("mount", "--bind", namespace, f"{DOCKERS_DIRECTORY}/{name}")


def test_a_sandbox_with_a_file_is_told_from_one_without(host: Namespace) -> None:
    host.add_sandbox("with-file", NAME, VNI, endpoint=False)
    host.add_sandbox("without", "vx-001003-other", 0x1003, endpoint=False)
    mount_sandbox(host, "/run/netns/with-file", "1-n0fxr")
    mount_sandbox(host, "/proc/self/ns/net", "default")
    host.run("touch", f"{DOCKERS_DIRECTORY}/left-over")
    host.run("mkfifo", f"{DOCKERS_DIRECTORY}/pipe")
    host.run("mkdir", f"{DOCKERS_DIRECTORY}/folder")
    host.run("ln", "-s", "nowhere", f"{DOCKERS_DIRECTORY}/broken")
    host.run("ln", "-s", "/proc/self/ns/mnt", f"{DOCKERS_DIRECTORY}/of-another-kind")
    with host.kernel() as kernel:
        places = {each.identity.vni: each.identity.netns for each in kernel.look().devices}
        files = kernel.sandbox_files()
        assert files == {places[VNI].nsid: f"{DOCKERS_DIRECTORY}/1-n0fxr"}
        host.run("umount", f"{DOCKERS_DIRECTORY}/1-n0fxr")
        assert kernel.sandbox_files() == {}


def test_without_dockers_directories_there_are_no_sandbox_files(host: Namespace) -> None:
    with host.kernel() as kernel:
        assert kernel.sandbox_files() == {}


def test_files_of_sandboxes_that_may_not_be_opened_are_left_out(host: Namespace) -> None:
    host.add_sandbox("sandbox", NAME, VNI, endpoint=False)
    mount_sandbox(host, "/run/netns/sandbox", "1-n0fxr")
    host.run("chown", "65534", "/run/docker")
    host.run("chmod", "700", "/run/docker")
    with host.kernel(*NO_OVERRIDE) as kernel:
        assert the_only_device(kernel).identity.vni == VNI
        assert kernel.sandbox_files() == {}


def test_a_device_that_is_gone_joins_no_group(host: Namespace) -> None:
    with host.kernel() as kernel, pytest.raises(GoneError):
        kernel.set_group(4242, 5)
