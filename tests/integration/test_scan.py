"""`vxlan-worker scan` as somebody runs it at 3 a.m.: alone, on the real kernel of a private namespace."""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.runtime.exit_status import ExitStatus
from tests.builders import NAME, VNI
from tests.fake_docker import FakeDocker
from tests.fake_swarm import network, snapshot
from tests.integration.namespaces import Namespace

pytestmark = pytest.mark.privileged

GRACE = ("--grace-seconds", "0.3")
NO_DOCKER = ("--docker-socket", "/nonexistent/docker.sock")


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    """A namespace that plays the host."""
    return Namespace(in_empty_namespace)


def scan(
    host: Namespace, *options: str, under: tuple[str, ...] = (), grace: tuple[str, ...] = GRACE
) -> subprocess.CompletedProcess[str]:
    """Run the command on a node without Docker and journal, unless the options say otherwise."""
    program = (str(Path(sys.executable).parent / "vxlan-worker"), "scan", *grace, *NO_DOCKER)
    return subprocess.run(
        host.command(*under, *program, *options),
        env=os.environ | {"VXLAN_OPERATOR_JOURNAL": "/nonexistent/journal.jsonl"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def scanned(host: Namespace, *options: str) -> dict[str, dict[str, Any]]:
    """What it tells of each device, by name."""
    found = json.loads(scan(host, "--output", "json", *options).stdout)
    return {device["device"]: device for device in found["devices"]}


def test_a_node_without_devices_is_clean(host: Namespace) -> None:
    done = scan(host)
    assert (done.returncode, done.stdout) == (0, "This node has no VXLAN devices.\n")
    assert scan(host, "-o", "json").stdout == '{\n  "devices": [],\n  "limitations": []\n}\n'


def test_each_kind_of_device_is_told_with_its_place_and_reason(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.add_vxlan("vx-submariner", 77, port=4800)
    host.add_sandbox("live", "vx-001003-n0fxr", 0x1003, endpoint=True)
    done = scan(host)
    assert done.returncode == ExitStatus.NO
    header, *lines = done.stdout.splitlines()
    assert header.split() == [
        "DEVICE",
        "NETNS",
        "VNI",
        "PORT",
        "STATE",
        "NETWORK",
        "VERDICT",
        "REASON",
    ]
    told = {line.split()[0]: line for line in lines}
    assert told[NAME].split()[1:7] == ["host", str(VNI), "4789", "DOWN", "-", "orphan"]
    assert "its id began with n0fxr" in told[NAME]
    assert told["vx-submariner"].split()[6] == "foreign"
    assert told["vxlan0"].split()[1].startswith("nsid:")
    assert told["vxlan0"].split()[6] == "in_use"


def test_fix_removes_what_is_dead_wherever_it_hides_and_nothing_else(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.add_vxlan("vx-submariner", 77, port=4800)
    host.add_sandbox("dead", "vx-001003-n0fxr", 0x1003, endpoint=False)
    host.add_sandbox("live", "vx-001004-n0fxr", 0x1004, endpoint=True)
    done = scan(host, "--fix")
    assert done.returncode == 0
    assert done.stdout.count("  removed  ") == 2
    steps = [line.split(":")[0] for line in done.stderr.splitlines()]
    assert steps.pop(0) == "warning", "dockerd was not asked"
    assert steps == ["planned"] * 2 + ["applied"] * 2 + ["verified"] * 2
    left = scanned(host)
    assert {name: device["verdict"] for name, device in left.items()} == {
        "vx-submariner": "foreign",
        "vxlan0": "in_use",
    }
    again = scan(host, "--fix")
    assert again.returncode == 0
    assert again.stderr.startswith("warning: dockerd was not asked: ")
    assert again.stderr.count("\n") == 1


def test_without_fix_nothing_is_removed(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    for _ in range(2):
        assert scan(host).returncode == ExitStatus.NO
    assert NAME in host.ip("link show type vxlan")


def test_a_docker_socket_in_reach_gives_names_and_the_port(host: Namespace, tmp_path: Path) -> None:
    host.add_vxlan(NAME, VNI, port=7789)
    socket = tmp_path / "docker.sock"
    state = replace(snapshot(networks=[network("shop", VNI)]), data_path_port=7789)
    with FakeDocker(socket, state):
        told = scanned(host, "--docker-socket", str(socket))
    assert told[NAME]["network"] == "shop"
    assert told[NAME]["verdict"] == "orphan"
    assert "not wanted" not in told[NAME]["reason"], "nobody told what is wanted here"
    without = scan(host)
    assert without.returncode == ExitStatus.ERROR, "without Docker it is not known"
    assert "4789 is assumed; devices that look like Docker's have UDP port 7789" in without.stderr
    assert "--data-path-port 7789" in without.stderr
    assert scanned(host, "--data-path-port", "7789")[NAME]["verdict"] == "orphan"


def test_a_docker_socket_that_does_not_answer_is_said_and_no_hindrance(
    host: Namespace, tmp_path: Path
) -> None:
    host.add_vxlan(NAME, VNI)
    dead = tmp_path / "docker.sock"
    dead.touch()
    done = scan(host, "--docker-socket", str(dead))
    assert done.returncode == ExitStatus.NO
    assert done.stderr.startswith("warning: dockerd was not asked: ")


def test_a_docker_socket_that_is_missing_is_said(host: Namespace) -> None:
    done = scan(host)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: dockerd was not asked: no Docker API at unix://")
    assert "networks have no names here, and none of their containers is known" in done.stderr


def test_a_foreign_device_on_a_known_networks_vni_is_a_conflict(
    host: Namespace, tmp_path: Path
) -> None:
    host.ip(f"link add vxlan.calico type vxlan id {VNI} dstport 4789")
    socket = tmp_path / "docker.sock"
    with FakeDocker(socket, snapshot(networks=[network("shop", VNI)])):
        told = scanned(host, "--docker-socket", str(socket), "--fix")
    assert told["vxlan.calico"]["verdict"] == "conflict"
    assert "vxlan.calico" in host.ip("link show type vxlan")


def test_without_the_capability_it_cannot_look_and_says_so(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    done = scan(host, under=("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"))
    assert (done.returncode, done.stdout) == (ExitStatus.ERROR, "")
    assert "CAP_NET_ADMIN" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    "options",
    [("--grace-seconds", "0"), ("--data-path-port", "70000"), ("--output", "xml"), ("stray",)],
    ids=" ".join,
)
def test_options_without_meaning_are_told(host: Namespace, options: tuple[str, ...]) -> None:
    done = scan(host, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert options[-1] in done.stderr or "must be" in done.stderr


# What a person takes the place of.


def test_a_sandbox_has_a_minute_unless_somebody_says_otherwise(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.add_sandbox("dead", "vx-001003-n0fxr", 0x1003, endpoint=False)
    begun = time.monotonic()
    done = scan(host, "-o", "json", grace=())
    assert time.monotonic() - begun < 50.0, "who only looks is not kept waiting for a minute"
    assert done.returncode == ExitStatus.NO
    told = {each["device"]: each for each in json.loads(done.stdout)["devices"]}
    assert told[NAME]["verdict"] == "orphan"
    assert told["vxlan0"]["verdict"] == "settling"
    assert "`--fix` removes it after 60 s" in told["vxlan0"]["reason"]


def test_fix_waits_for_a_sandbox_and_shows_on_a_terminal_for_how_long_still(
    host: Namespace,
) -> None:
    host.add_sandbox("dead", NAME, VNI, endpoint=False)
    program = str(Path(sys.executable).parent / "vxlan-worker")
    words = shlex.join([program, "scan", "--fix", "--grace-seconds", "3", *NO_DOCKER])
    shown = subprocess.run(
        host.command("script", "--quiet", "--return", "--command", words, "/dev/null"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0
    assert "waiting up to 3 s more, to rule out a join: vxlan0 in nsid:0" in shown.stdout
    assert "waiting up to 1 s more" in shown.stdout
    assert "  removed  " in shown.stdout
    assert scanned(host) == {}


def test_without_a_terminal_it_says_once_that_it_waits(host: Namespace) -> None:
    host.add_sandbox("dead", NAME, VNI, endpoint=False)
    done = scan(host, "--fix", grace=("--grace-seconds", "2"))
    assert done.returncode == 0
    waiting = [line for line in done.stderr.splitlines() if line.startswith("waiting")]
    assert waiting == ["waiting up to 2 s more, to rule out a join: vxlan0 in nsid:0"]
    assert "\x1b" not in done.stderr


def test_while_a_join_is_under_way_fix_removes_nothing(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.add_sandbox("dead", "vx-001003-n0fxr", 0x1003, endpoint=False)
    host.ip("link add veth1234567 type veth peer name veth89abcde")
    done = scan(host, "--fix")
    assert done.returncode == ExitStatus.NO
    assert done.stdout.count("is in the host namespace, both ends, without a master") == 2
    assert NAME in host.ip("link show type vxlan")
    host.ip("link del veth1234567")
    assert scan(host, "--fix").returncode == 0


@pytest.mark.parametrize(
    ("containers", "verdict"),
    [
        ([], "orphan"),
        ([{"Id": "c0ffee", "Names": ["/web.1"], "State": "exited"}], "orphan"),
        ([{"Id": "c0ffee", "Names": ["/web.1"], "State": "created"}], "settling"),
        ([{"Id": "c0ffee", "Names": ["/web.1"], "State": "running"}], "settling"),
        ("nonsense", "settling"),
    ],
    ids=["none", "ended", "just starting", "running", "no answer that makes sense"],
)
def test_a_sandbox_whose_network_has_a_container_is_spared(
    host: Namespace, tmp_path: Path, containers: Any, verdict: str
) -> None:
    host.add_sandbox("quiet", NAME, VNI, endpoint=False)
    socket = tmp_path / "docker.sock"
    shop = network("shop", VNI)
    with FakeDocker(socket, snapshot(networks=[shop])) as docker:
        docker.containers = containers
        if isinstance(containers, list):
            docker.containers = [each | {"Network": shop.id} for each in containers]
        told = scanned(host, "--docker-socket", str(socket), "--fix")["vxlan0"]
    assert told["verdict"] == verdict
    assert told["removed"] is (verdict == "orphan")
    assert ("dockerd" in told["reason"]) is True


def test_a_live_sandbox_tells_the_port_where_dockerd_does_not(host: Namespace) -> None:
    """A worker node's dockerd does not know it."""
    host.add_vxlan(NAME, VNI, port=5789)
    host.add_vxlan("vx-001003-n0fxr", 0x1003, port=5789)
    host.ip("netns add live")
    host.ip("link set vx-001003-n0fxr netns live name vxlan0")
    for words in (
        "add br0 type bridge", "set vxlan0 master br0 up", "add veth0 type veth peer name veth1",
        "set veth0 master br0",
    ):  # fmt: skip
        host.ip(f"-n live link {words}")
    done = scan(host, "-o", "json")
    assert done.returncode == ExitStatus.NO
    assert "is assumed" not in done.stderr
    told = {each["device"]: each["verdict"] for each in json.loads(done.stdout)["devices"]}
    assert told == {NAME: "orphan", "vxlan0": "in_use"}


def test_dockers_probe_is_told_as_that(host: Namespace) -> None:
    host.ip("link add testvxlan type vxlan id 1 dstport 4789 proxy l2miss l3miss")
    done = scan(host)
    assert done.returncode == 0
    assert "Docker's probe of the kernel" in done.stdout
    assert "not Docker's" not in done.stdout


def test_what_others_set_up_is_told_and_left_to_a_person(host: Namespace) -> None:
    host.add_vxlan(NAME, VNI)
    host.ip(f"link set {NAME} up")
    done = scan(host, "--fix")
    assert done.returncode == ExitStatus.NO
    assert f"`ip link delete {NAME}`" in done.stdout
    assert NAME in host.ip("link show type vxlan")


# What a person names.


def test_one_device_goes_because_a_person_says_so_and_no_other(host: Namespace) -> None:
    host.add_sandbox("held", NAME, VNI, endpoint=True)
    host.add_vxlan("vx-001003-n0fxr", 0x1003)
    before = scanned(host)
    named = f"{before['vxlan0']['netns']}#{before['vxlan0']['ifindex']}"
    done = scan(host, "--remove", named)
    assert (done.returncode, done.stdout) == (0, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "planned",
        "applied",
        "verified",
    ]
    assert "a person has named it (its sandbox has 1 endpoint(s): veth0)" in done.stderr
    assert list(scanned(host)) == ["vx-001003-n0fxr"]
    again = scan(host, "--remove", named)
    assert again.returncode == ExitStatus.ERROR
    assert "there is no VXLAN device with ifindex" in again.stderr


def test_what_is_not_dockers_goes_by_nobodys_word(host: Namespace) -> None:
    host.add_vxlan("vx-submariner", 77)
    ifindex = scanned(host)["vx-submariner"]["ifindex"]
    done = scan(host, "--remove", f"host#{ifindex}")
    assert done.returncode == ExitStatus.ERROR
    assert "is not Docker's: its name" in done.stderr
    assert "vx-submariner" in host.ip("link show type vxlan")


@pytest.mark.parametrize(
    "named", ["7", "host#0", "host#x", "nsid:#7", "elsewhere#7", "host#" + "9" * 20]
)
def test_what_names_no_device_is_told(host: Namespace, named: str) -> None:
    done = scan(host, "--remove", named)
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be like host#7 or nsid:4#11" in done.stderr
