"""What happens: in the kernel of the worker's node."""

import errno
import os
from typing import Final, get_args

from tests.builders import ALL_FLAGS, PORT
from tests.fake_kernel import Operation
from tests.scenarios.errors import ScenarioError
from tests.scenarios.language import command
from tests.scenarios.usage import Arguments
from tests.scenarios.world import World, read_netns
from worker.kernel.api import KernelError, NotPermittedError
from worker.kernel.model import (
    Device,
    Identity,
    VethPair,
    VxlanFlag,
)

_BRIDGE: Final = 2
_OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
_SHAPE: Final = "[up] [down] [master=IFINDEX] [address=CIDR] [endpoints=NUMBER]"
_KIND: Final = "[port=PORT] [flags=FLAGS] [born-elsewhere] [ipv6] [apart] [ifindex=IFINDEX]"


@command(f"kernel device NAME netns=NETNS vni=VNI {_SHAPE} {_KIND}")
def kernel_device(world: World, given: Arguments) -> None:
    """A VXLAN device appears; without a word of more it looks as a leaked one does."""
    netns = read_netns(given["netns"])
    port, ifindex = given.number("port"), given.number("ifindex")
    identity = Identity(
        netns,
        world.ifindex() if ifindex is None else ifindex,
        given["NAME"],
        given.whole("vni"),
        PORT if port is None else port,
    )
    device = Device(
        identity=identity,
        up=not netns.is_host,
        master=None if netns.is_host else _BRIDGE,
        addressed=False,
        flags=ALL_FLAGS if given.get("flags") is None else _flags(given["flags"]),
        born_elsewhere=given.flag("born-elsewhere"),
        endpoints=0,
        ipv6=given.flag("ipv6"),
        kept_apart=given.flag("apart"),
    )
    world.node.kernel.put(_shaped(device, given))


@command(f"kernel set NAME [netns=NETNS] {_SHAPE}")
def kernel_set(world: World, given: Arguments) -> None:
    """A device changes."""
    world.node.kernel.change(_shaped(world.device(given["NAME"], given.get("netns")), given))


@command("kernel move NAME to=NETNS as=NAME [netns=NETNS]")
def kernel_move(world: World, given: Arguments) -> None:
    """A device is moved to another namespace and renamed; there it is DOWN and without a master."""
    device = world.device(given["NAME"], given.get("netns"))
    old = device.identity
    world.node.kernel.vanish(old.netns, old.ifindex)
    world.node.kernel.put(
        device._replace(
            identity=old._replace(netns=read_netns(given["to"]), name=given["as"]),
            up=False,
            master=None,
            endpoints=0,
            ports=(),
        )
    )


@command("kernel delete NAME [netns=NETNS]")
def kernel_delete(world: World, given: Arguments) -> None:
    """A device goes, and not by the worker."""
    identity = world.device(given["NAME"], given.get("netns")).identity
    world.node.kernel.vanish(identity.netns, identity.ifindex)


@command("kernel bridge netns=NETNS ifindex=IFINDEX")
def kernel_bridge(world: World, given: Arguments) -> None:
    """Something that is no VXLAN device has this ifindex now."""
    world.node.kernel.put_other(read_netns(given["netns"]), given.whole("ifindex"))


@command("kernel end-netns NETNS")
def kernel_end_netns(world: World, given: Arguments) -> None:
    """A namespace goes, with all devices in it."""
    world.node.kernel.end_namespace(read_netns(given["NETNS"]))


@command("kernel netns-file NETNS PATH")
def kernel_netns_file(world: World, given: Arguments) -> None:
    """A namespace has a file in Docker's directory."""
    nsid = read_netns(given["NETNS"]).nsid
    if nsid is None:
        raise ScenarioError("the host's namespace has no file of Docker's")
    world.node.kernel.files[nsid] = given["PATH"]


@command("kernel veth NAME PEER")
def kernel_veth(world: World, given: Arguments) -> None:
    """Docker makes a veth pair in the host namespace: a container is joining a network."""
    ends = world.ifindex(), world.ifindex()
    world.node.kernel.joins.append(VethPair(given["NAME"], given["PEER"], ends))


@command("kernel veth-moved NAME")
def kernel_veth_moved(world: World, given: Arguments) -> None:
    """One end of the pair goes into a sandbox."""
    joins = world.node.kernel.joins
    left = [each for each in joins if each.one != given["NAME"]]
    if len(left) == len(joins):
        raise ScenarioError(f"there is no veth pair {given['NAME']}")
    joins[:] = left


@command("kernel no-capability")
def kernel_no_capability(world: World, _: Arguments) -> None:
    """The worker has no CAP_NET_ADMIN."""
    world.node.kernel.permitted = False


@command("kernel capability")
def kernel_capability(world: World, _: Arguments) -> None:
    """It has it again."""
    world.node.kernel.permitted = True


@command("kernel keeps-devices")
def kernel_keeps_devices(world: World, _: Arguments) -> None:
    """The kernel confirms deletions and does not carry them out."""
    world.node.kernel.takes_effect = False


@command("kernel fail OPERATION ERRNO")
def kernel_fail(world: World, given: Arguments) -> None:
    """The next such call fails."""
    code = getattr(errno, given["ERRNO"], None)
    if not isinstance(code, int):
        raise ScenarioError(f"{given['ERRNO']!r} is no errno, like EBUSY")
    operation = _operation(given)
    happened = world.happening(f"kernel fail {operation} {given['ERRNO']}")

    def fail() -> None:
        happened()
        kind = NotPermittedError if code == errno.EPERM else KernelError
        raise kind(code, os.strerror(code))

    world.node.kernel.before(operation, fail)


@command("kernel lose-answer OPERATION")
def kernel_lose_answer(world: World, given: Arguments) -> None:
    """The next such call is carried out, and its answer does not come."""
    operation = _operation(given)
    world.node.kernel.lose_answer(operation)


@command("before OPERATION COMMAND...")
def before(world: World, given: Arguments) -> None:
    """Let a command happen just before the worker's next such call."""
    operation, words = _operation(given), list(given.rest)
    happened = world.happening(f"before {operation} {' '.join(words)}")

    def happen() -> None:
        happened()
        world.do(words)

    world.node.kernel.before(operation, happen)


def _operation(given: Arguments) -> Operation:
    for each in _OPERATIONS:
        if each == given["OPERATION"].replace("-", "_"):
            return each
    names = ", ".join(each.replace("_", "-") for each in _OPERATIONS)
    raise ScenarioError(f"{given['OPERATION']!r} is nothing that the worker asks: {names}")


def _shaped(device: Device, given: Arguments) -> Device:
    """The device as a line changes it."""
    if given.flag("up") and given.flag("down"):
        raise ScenarioError("a device is up or down")
    if given.flag("up") or given.flag("down"):
        device = device._replace(up=given.flag("up"))
    if (master := given.get("master")) is not None:
        device = device._replace(master=None if master == "none" else given.number("master"))
    if given.get("address") is not None:
        addresses = tuple(given.list("address"))
        device = device._replace(addressed=True, addresses=addresses)
    if (endpoints := given.number("endpoints")) is not None:
        ports = tuple(f"veth{number}" for number in range(endpoints))
        device = device._replace(endpoints=endpoints, ports=ports)
    return device


def _flags(text: str) -> VxlanFlag:
    flags = VxlanFlag(0)
    for name in text.split(",") if text != "none" else ():
        try:
            flags |= VxlanFlag[name.upper()]
        except KeyError:
            raise ScenarioError(f"{name!r} is no flag: learning, proxy, l2miss, l3miss") from None
    return flags
