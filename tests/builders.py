"""Values for tests of the worker, each good unless a test says otherwise."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contract.messages import (
    Acknowledgement,
    DesiredNetwork,
    NetworkRef,
    ReconcileRequest,
    Rejection,
    SwarmReading,
)
from contract.verdicts import Mode
from worker.kernel.model import (
    HOST,
    Device,
    Identity,
    Netns,
    VxlanFlag,
)

NODE = "n0de" * 6 + "0"
OTHER_NODE = "0ther" * 5
SANDBOX = Netns(4)
PORT = 4789
VNI = 0x1002
NAME = "vx-001002-n0fxr"
ALL_FLAGS = VxlanFlag.LEARNING | VxlanFlag.PROXY | VxlanFlag.L2MISS | VxlanFlag.L3MISS
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


def identity(
    *, netns: Netns = HOST, ifindex: int = 7, name: str = NAME, vni: int = VNI, port: int = PORT
) -> Identity:
    """Docker's own device in the host namespace."""
    return Identity(netns, ifindex, name, vni, port)


def leaked(of: Identity | None = None) -> Device:
    """What Docker leaves in the host namespace when it dies between two steps."""
    return Device(
        identity=of or identity(),
        up=False,
        master=None,
        addressed=False,
        flags=ALL_FLAGS,
        born_elsewhere=False,
        endpoints=0,
    )


def addressed(device: Device, *addresses: str) -> Device:
    """The same device with these IP addresses, or one."""
    return device._replace(addressed=True, addresses=addresses or ("192.0.2.1/24",))


def in_sandbox(*, endpoints: int, name: str = "vxlan0", ifindex: int = 7, vni: int = VNI) -> Device:
    """Docker's device in a network's sandbox: UP, on a bridge with so many endpoints."""
    return Device(
        identity=identity(netns=SANDBOX, ifindex=ifindex, name=name, vni=vni),
        up=True,
        master=2,
        addressed=False,
        flags=ALL_FLAGS,
        born_elsewhere=False,
        endpoints=endpoints,
        ports=tuple(f"veth{number}" for number in range(endpoints)),
    )


def network(
    *vnis: int,
    name: str = "shop",
    prefix: str = "n0fxr",
    running: bool = False,
    ingress: bool = False,
    mode: Mode = Mode.ENFORCE,
) -> DesiredNetwork:
    """A Swarm network with these VNIs; `running`: a task of it runs on the node."""
    return DesiredNetwork(
        id=prefix.ljust(25, "0"),
        name=name,
        vnis=vnis or (VNI,),
        running=running,
        ingress=ingress,
        mode=mode,
    )


def request(
    *,
    node_id: str = NODE,
    issued_at: datetime = EPOCH,
    lifetime: timedelta = timedelta(minutes=1),
    mode: Mode = Mode.ENFORCE,
    port: int = PORT,
    desired: Sequence[DesiredNetwork] = (),
    known: Sequence[NetworkRef] = (),
    acknowledged: Acknowledgement | None = None,
    max_removals: int = 1_000,
    fence: int = 0,
    reading: SwarmReading = SwarmReading(),  # noqa: B008 -- a value
    rejections: Sequence[Rejection] = (),
) -> ReconcileRequest:
    """A request to look at `NODE` and remove what is dead."""
    return ReconcileRequest(
        run_id=uuid4(),
        node_id=node_id,
        generation=1,
        issued_at=issued_at,
        deadline=issued_at + lifetime,
        mode=mode,
        data_path_port=port,
        desired=tuple(desired),
        known=tuple(known),
        acknowledged=acknowledged,
        max_removals=max_removals,
        fence=fence,
        reading=reading,
        next_within=3600.0,
        rejections=tuple(rejections),
    )


def rejection(
    at: datetime,
    *,
    vni: int | None = VNI,
    doubt: str | None = None,
    task: str = "t",
) -> Rejection:
    """A task of the network with this VNI that the node rejected."""
    return Rejection(task_id=task.ljust(25, "0"), at=at, vni=vni, subnet="10.0.2.0/24", doubt=doubt)
