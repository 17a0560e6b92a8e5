"""Whether a VXLAN device is Docker's own, by all of Docker's marks. Pure.

`vx-` alone proves nothing: containerlab and Submariner use it too. Docker's has all of these marks (moby
libnetwork/drivers/overlay: ov_network.go, ov_utils.go; docs/limits.md):

* in the host namespace the name `vx-<VNI, %06x>-<first 5 characters of the network id>`, whose hex
  is the device's VNI; in a sandbox `vxlan<N>`, or still the host's name, for the moment between being
  moved and being renamed;
* the Swarm's data path port;
* learning, proxy, l2miss and l3miss;
* created in the host's namespace: another one's device blocks nobody here.
"""

import re
from typing import Final

from worker.kernel.model import Device, VxlanFlag

_HOST_NAME: Final = re.compile(r"vx-([0-9a-f]{6})-([0-9a-z]{5})")
_SANDBOX_NAME: Final = re.compile(r"vxlan[0-9]{1,4}")
_PROBE: Final = ("testvxlan", 1)
"""Name and VNI of the device by which a dockerd up to 23.0 tries the kernel (moby ov_network.go)."""
_DOCKERS_FLAGS: Final = VxlanFlag.LEARNING | VxlanFlag.PROXY | VxlanFlag.L2MISS | VxlanFlag.L3MISS


def why_foreign(device: Device, data_path_port: int) -> str | None:
    """Return why a device is not Docker's in a Swarm with this UDP port, as text; None when it is."""
    identity = device.identity
    named = _HOST_NAME.fullmatch(identity.name)
    if named is None and (identity.netns.is_host or not _SANDBOX_NAME.fullmatch(identity.name)):
        return f"its name {identity.name!r} is not one that Docker gives"
    if named is not None and int(named[1], 16) != identity.vni:
        return f"its name says VNI {int(named[1], 16)}, but it has {identity.vni}"
    if identity.port != data_path_port:
        return f"its UDP port is {identity.port}, the Swarm's data path port is {data_path_port}"
    if device.flags != _DOCKERS_FLAGS:
        missing = _DOCKERS_FLAGS & ~device.flags
        names = ", ".join(str(flag.name).lower() for flag in missing)
        return f"Docker would have set {names}"
    if device.born_elsewhere:
        return "it was created in another namespace than this host's"
    return None


def is_probe(device: Device) -> bool:
    """Whether a device is Docker's probe of the kernel, left over from a dockerd that died."""
    return (device.identity.name, device.identity.vni) == _PROBE


def network_prefix(name: str) -> str | None:
    """Return the first characters of the network's id from a device's name in the host namespace."""
    named = _HOST_NAME.fullmatch(name)
    return None if named is None else named[2]
