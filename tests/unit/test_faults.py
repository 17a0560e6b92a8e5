"""Which errors of tasks are the fault, in the words of every engine, and which only look like it."""

import time
from collections.abc import Callable
from typing import Final

import pytest

from controller.swarm.faults import fault_subnet, is_leak

SUBNET = 'subnet sandbox join failed for "10.0.2.0/24": '
FAULT: Final = "error creating vxlan interface: file exists"
PROBE: Final = f"Failed to create testvxlan interface: {FAULT}"
GREP: Final = "error creating \x1b[01;31m\x1b[Kvxlan\x1b[m\x1b[K interface: file exists"
"""As `grep --color=always vxlan` leaves it."""


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(
            f"network sandbox join failed: {SUBNET}error creating vxlan interface: file exists",
            id="20.10 to 28.5",
        ),
        pytest.param(
            f"starting container failed: {SUBNET}error creating VXLAN interface: file exists",
            id="18.03",
        ),
        pytest.param("ERROR CREATING VXLAN INTERFACE: FILE EXISTS", id="other case"),
        pytest.param(
            'vxlan interface creation failed for subnet "10.0.2.0/24": '
            "failed in prefunc: failed to set namespace on link: file exists",
            id="interface creation",
        ),
        pytest.param(
            f"Failed creating ingress network: network sandbox join failed: {SUBNET}"
            "error creating vxlan interface: file exists",
            id="ingress",
        ),
        pytest.param("Failed creating ingress network: x:\n\ty: file exists", id="over two lines"),
        pytest.param(f'level=error error="{SUBNET}{GREP}" node.id=one', id="coloured by grep"),
        pytest.param(f"\x1b[31merror\x1b[0m {FAULT}", id="coloured by logrus"),
        pytest.param("error creating \x9b31mvxlan\x9b0m interface: file exists", id="8-bit colour"),
        pytest.param(f"docker: Error response from daemon: {FAULT}.\nERRO[0000]", id="docker run"),
        pytest.param(f"falha ao entrar na rede 10.0.2.0/24:\n  {FAULT}", id="in another language"),
        pytest.param(f"{PROBE}\n{SUBNET}{FAULT}", id="beside dockerd's own probe"),
    ],
)
def test_the_fault_is_recognised(error: str) -> None:
    assert is_leak(error)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("", id="no error"),
        pytest.param("task: non-zero exit (1)", id="a program that failed"),
        pytest.param("mkdir /var/lib/shop: file exists", id="another file"),
        pytest.param(
            f"{SUBNET}error creating vxlan interface: operation not supported", id="no vxlan module"
        ),
        pytest.param(
            'vxlan interface creation failed for subnet "10.0.2.0/24": operation not permitted',
            id="not permitted",
        ),
        pytest.param("Failed creating ingress network: network ingress not found", id="no ingress"),
        pytest.param("No such image: shop:file exists", id="an image"),
        pytest.param(PROBE, id="dockerd's own probe"),
        pytest.param(f'time="2026" level=error msg="{PROBE.upper()}"', id="its log line"),
        pytest.param(f"Failed to create testvxlan interface: {GREP}", id="it, coloured by grep"),
        pytest.param(
            "Failed to create testvxlan interface: operation not supported", id="it, unsupported"
        ),
        pytest.param(
            'vxlan interface creation failed for subnet "10.0.2.0/24": '
            "failed to set link up: address already in use",
            id="port in use",
        ),
        pytest.param("vxlan add failed: failed to add vxlan koko1: file exists", id="koko's"),
        pytest.param("x" * 4_000 + FAULT, id="beyond what is looked at"),
    ],
)
def test_other_errors_are_not_the_fault(error: str) -> None:
    assert not is_leak(error)


@pytest.mark.parametrize(
    ("error", "subnet"),
    [
        (f"network sandbox join failed: {SUBNET}{FAULT}", "10.0.2.0/24"),
        (f"network sandbox join failed: {SUBNET}", "10.0.2.0/24"),
        (f"subnet sandbox join failed for 10.0.2.0/24: {FAULT}", "10.0.2.0/24"),
        (f"subnet sandbox join failed for '10.0.2.0/24': {FAULT}", "10.0.2.0/24"),
        (f'error="subnet sandbox join failed for \\"10.0.2.0/24\\": {FAULT}"', "10.0.2.0/24"),
        (f'{{"e":"subnet sandbox join failed for \\\\"10.0.2.0/24\\\\": {FAULT}', "10.0.2.0/24"),
        (
            'vxlan interface creation failed for subnet "172.30.0.0/16": file exists',
            "172.30.0.0/16",
        ),
        (f"falha ao entrar na rede 10.0.2.0/24:\n  {FAULT}", "10.0.2.0/24"),
        (f'src=192.0.2.0/24 {SUBNET}{FAULT} for "198.51.100.0/24"', "10.0.2.0/24"),
        (f'subnet sandbox join failed for "10.0.2.7/24": {FAULT}', "10.0.2.0/24"),
        (f'subnet sandbox join failed for "FD00:0:0:a::/64": {FAULT}', "fd00:0:0:a::/64"),
        (f"subnet sandbox join failed for fd00::a:0:0:1/64: {FAULT}", "fd00::/64"),
        (f'subnet sandbox join failed for "\x1b[31m10.0.2.0\x1b[0m/24": {FAULT}', "10.0.2.0/24"),
        (f'subnet sandbox join failed for "10.0.2.0/33": {FAULT}', None),
        (f'subnet sandbox join failed for "10.0.2.300/24": {FAULT}', None),
        (f'subnet sandbox join failed for "fd00:::/64": {FAULT}', None),
        (f'subnet sandbox join failed for "": {FAULT}', None),
        ("network 10.0.2.0/24 has conflicts in the host", None),
        (FAULT, None),
        ("", None),
    ],
)
def test_the_subnet_that_the_fault_names(error: str, subnet: str | None) -> None:
    assert fault_subnet(error) == subnet


@pytest.mark.parametrize("function", [is_leak, fault_subnet])
@pytest.mark.parametrize(
    "hostile",
    [
        "vxlan interface creation failed for subnet ",
        "failed creating ingress network: ",
        "error creating vxlan interface: ",
        "subnet sandbox join failed for ",
        "sandbox join failed for " + " " * 4_000,
        "\x1b[",
        "\x1b[0",
        "1.",
        "fd:",
        'for "',
        "\\",
    ],
)
def test_a_hundred_times_the_text_does_not_take_a_hundred_times_as_long(
    function: Callable[[str], object], hostile: str
) -> None:
    """A node writes its tasks' errors itself, and `re` stops every thread while it searches."""
    short, long = (hostile * (length // len(hostile)) for length in (4_300, 430_000))
    assert least(function, long) < 20 * least(function, short) + 0.001


def least(function: Callable[[str], object], text: str) -> float:
    """The least seconds of five: a busy machine makes single ones long."""

    def once() -> float:
        begin = time.perf_counter()
        function(text)
        return time.perf_counter() - begin

    return min(once() for _ in range(5))
