"""Whether a UDP port is the Swarm's data path port, by what this node shows itself. Pure.

A device on another port is not Docker's, so that port decides what may be removed. A request alone must not.
"""

from collections.abc import Iterable
from typing import Final

from worker.kernel.model import Device
from worker.ownership import why_foreign

DEFAULT_DATA_PATH_PORT: Final = 4789
"""Docker's, unless `docker swarm init` was told another (IANA's port of VXLAN)."""


def is_dockers_on_any_port(device: Device) -> bool:
    """Whether a device has all of Docker's marks but the port."""
    return why_foreign(device, device.identity.port) is None


def live_ports(devices: Iterable[Device]) -> frozenset[int]:
    """Return the ports of Docker's devices that containers use: each such sandbox shows the Swarm's."""
    return frozenset(
        device.identity.port
        for device in devices
        if not device.identity.netns.is_host and device.endpoints and is_dockers_on_any_port(device)
    )


def confirmed(port: int, *, setting: int, live: frozenset[int], remembered: int | None) -> bool:
    """Whether a port is believed to be the Swarm's.

    Args:
        setting: this worker's own (`DATA_PATH_PORT`); 0: none.
        live: `live_ports` of this moment.
        remembered: the port that such devices confirmed last.
    """
    if setting:
        return port == setting
    if live:
        return port in live
    return port == (DEFAULT_DATA_PATH_PORT if remembered is None else remembered)
