"""Which errors of tasks are the fault, in the words of every engine, and which only look like it."""

import pytest

from controller.swarm.faults import is_leak

SUBNET = 'subnet sandbox join failed for "10.0.2.0/24": '


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
    ],
)
def test_other_errors_are_not_the_fault(error: str) -> None:
    assert not is_leak(error)
