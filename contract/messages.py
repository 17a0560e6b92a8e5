"""The messages: a reconcile request, its report, and the drift hint, checked on arrival.

Unknown fields are ignored, so that a newer side can add some during a rolling upgrade; everything
that is read is checked. A message that does not fit raises `pydantic.ValidationError`.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contract.verdicts import (
    DEVICE_STAGES,
    HELD_BY_WORKER,
    HeldBack,
    Mode,
    Outcome,
    Proof,
    Stage,
    Urgency,
    Verdict,
)

SwarmId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{25}$")]
"""Swarm's own id of a node or network: 25 digits in base 36 (swarmkit identity/randomid.go)."""

Vni = Annotated[int, Field(ge=0, lt=2**24)]
"""VXLAN network identifier, 24 bits (RFC 7348, section 5)."""

UdpPort = Annotated[int, Field(ge=0, lt=2**16)]
_NO_NUL = r"^[^\x00]*$"
"""PostgreSQL stores any character but this one."""

MAX_TEXT = 2_000
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT, pattern=_NO_NUL)]
Version = Annotated[str, StringConstraints(max_length=64, pattern=_NO_NUL)]
InterfaceName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=_NO_NUL)]
"""At most 15 bytes (IFNAMSIZ less the NUL), each of which may be shown as an escape of four characters."""

UserName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NO_NUL)]
"""Of an account on a node."""

NetnsName = Annotated[str, StringConstraints(pattern=r"^(host|nsid:[0-9]{1,10})$")]
"""`host`, or `nsid:N`: the peer namespace N as the host namespace numbers it."""

Generation = Annotated[int, Field(ge=0, lt=2**31)]
Timestamp = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9000, 1, 1, tzinfo=UTC)),
]
"""A time that exists in every zone, of any clock that a computer may have."""

KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""Names a public key: 16 hex digits of its SHA-256 (`contract.signing.keys`)."""
KeyText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
"""A public key of Ed25519: 32 bytes in base64url, of whose last digit two bits are unused and 0."""
SignatureText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{86}$")]
"""A signature of Ed25519: 64 bytes in base64url."""

PasswordDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of a password in hexadecimal, as Redis stores it."""

MAX_NETWORKS = 20_000
MAX_DEVICES = 20_000
MAX_ENTRIES = 2_000
MAX_REJECTIONS = 200
MAX_LIMITATIONS = 20
"""Bounds on what one message may carry; a node beyond them is broken in another way."""


class Message(BaseModel):
    """Base of all messages: immutable, and of a version both sides know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Stamp(Message):
    """A time by the clock of one worker process, which a controller returns unchanged.

    So a worker knows whether the Swarm was read after a device went idle, without another machine's clock.
    """

    session: UUID
    """Of the process: stamps of another session, also of this worker before a restart, prove nothing."""
    seconds: Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]


class SwarmReading(Message):
    """When the Swarm was read for a node; `ReconcileRequest.desired` is of that reading, or newer."""

    after: Stamp | None = None
    """The newest stamp of this worker that the controller had received when the reading began."""
    ready_seconds: Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)] | None = None
    """Time for which each reading found the node ready; None: the last did not."""


class Rejection(Message):
    """A task that this node rejected with the words of the fault."""

    task_id: SwarmId
    at: Timestamp
    """`Task.Status.Timestamp`: by the clock of this node, whose dockerd wrote it."""
    vni: Vni | None = None
    """Of the subnet that the error names; None: unknown."""
    subnet: Annotated[str, StringConstraints(max_length=64, pattern=_NO_NUL)] | None = None
    doubt: Text | None = None
    """Why it proves nothing; None: it counts."""


class NetworkRef(Message):
    """A Swarm overlay network."""

    id: SwarmId
    name: Annotated[str, StringConstraints(max_length=255)]
    vnis: Annotated[tuple[Vni, ...], Field(fail_fast=True)]
    ingress: bool = False
    """It is the Swarm's ingress network: its orphans need no rejected task."""
    mode: Mode = Mode.ENFORCE
    """OBSERVE: devices of this network are judged and reported, and not removed."""


class DesiredNetwork(NetworkRef):
    """A network that the node should carry."""

    running: bool = False
    """A task of it runs there: then there must be a device."""


class Acknowledgement(Message):
    """Journal entries up to and including `through` of journal `journal_id` are stored for good."""

    journal_id: UUID
    through: Annotated[int, Field(ge=0, lt=2**63)]


class ReconcileRequest(Message):
    """Controller to worker: reconcile your node now with this desired state."""

    version: Literal[1] = 1
    run_id: UUID
    node_id: SwarmId
    generation: Generation
    issued_at: Timestamp
    deadline: Timestamp
    mode: Mode
    data_path_port: UdpPort
    desired: Annotated[tuple[DesiredNetwork, ...], Field(max_length=MAX_NETWORKS, fail_fast=True)]
    known: Annotated[tuple[NetworkRef, ...], Field(max_length=MAX_NETWORKS, fail_fast=True)] = ()
    """Other networks whose VNIs this node has reported: they make an orphan stale instead of unknown."""
    acknowledged: Acknowledgement | None = None
    fence: Annotated[int, Field(ge=0, lt=2**63)]
    """Goes up with every change of leader; a worker refuses an earlier one."""
    max_removals: Annotated[int, Field(ge=0)]
    """Maximum number of removals in this run; the node's own limit may be lower."""
    reading: SwarmReading = SwarmReading()
    """When `desired` was read; by default that is not known, and `desired` proves nothing."""
    rejections: Annotated[
        tuple[Rejection, ...], Field(max_length=MAX_REJECTIONS, fail_fast=True)
    ] = ()
    """Tasks that this node rejected lately because of the fault."""
    next_within: Annotated[float, Field(gt=0, le=1e6)]
    """Seconds within which the controller sends the next request."""
    alive_every: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Seconds between the worker's signs of life; None: the controller reads none."""
    controller_keys: Annotated[tuple[KeyText, ...], Field(max_length=2, fail_fast=True)] = ()
    """Public keys that the worker is to believe from now on, one of which signed this; none: as before."""
    node_key: KeyId | None = None
    """The key of this node that the controllers believe; another, or None: the worker introduces its own."""
    rotate_key: KeyId | None = None
    """The key that the worker is to replace by one that it makes; nothing is done if its own is another."""


class DeviceIdentity(Message):
    """What must still be true of a device at the moment of its deletion."""

    netns: NetnsName
    ifindex: Annotated[int, Field(gt=0, lt=2**31)]
    name: InterfaceName
    vni: Vni
    port: UdpPort


class DeviceReport(Message):
    """One device as the worker saw and judged it in this run."""

    identity: DeviceIdentity
    verdict: Verdict
    urgency: Urgency | None = None
    network_id: SwarmId | None = None
    reason: Text
    evidence: Text
    """The kernel's facts behind the verdict, in words."""
    proof: Proof | None = None
    """What proves an orphan dead."""
    netns_file: Annotated[str, StringConstraints(max_length=255, pattern=_NO_NUL)] | None = None
    """The file of its namespace, if the worker sees one."""
    removed: bool = False
    held_back: HeldBack | None = None
    """Why this worker left an orphan; None: it was removed, or the request forbade it."""

    @model_validator(mode="after")
    def _only_orphans_are_urgent(self) -> Self:
        if (self.verdict is Verdict.ORPHAN) != (self.urgency is not None):
            raise ValueError("an orphan has an urgency, and nothing else has")
        if self.proof is not None and self.verdict is not Verdict.ORPHAN:
            raise ValueError("only an orphan is proved")
        if self.removed and self.verdict is not Verdict.ORPHAN:
            raise ValueError("only an orphan can have been removed")
        if self.held_back is not None and (
            self.verdict is not Verdict.ORPHAN or self.held_back not in HELD_BY_WORKER
        ):
            raise ValueError("only an orphan can be held back, and only by what a worker knows")
        return self


class JournalEntry(Message):
    """One line of a worker's journal: what it, or a scan, was about to do to a device, or what came of it."""

    id: UUID
    sequence: Annotated[int, Field(gt=0, lt=2**63)]
    at: Timestamp
    run_id: UUID
    stage: Stage
    identity: DeviceIdentity
    urgency: Urgency
    network_id: SwarmId | None = None
    reason: Text
    evidence: Text
    scanned_by: UserName | None = None
    """Who ran the `vxlan-worker scan` that did it, as that machine says; None: a run did."""

    @model_validator(mode="after")
    def _only_what_happens_to_devices(self) -> Self:
        if self.stage not in DEVICE_STAGES:
            raise ValueError(f"a journal cannot say {self.stage.value}")
        return self


ORPHANS_LEFT: Final = "orphan(s) left"
"""In a limitation of a report: it is about what was not removed, and not about what was not seen."""
KEY_KEPT: Final = "this node's key is not replaced, as it was asked for"
"""Begins the limitation of a report that says why."""


class ReconcileReport(Message):
    """Worker to controller: what one run saw and did."""

    version: Literal[1] = 1
    run_id: UUID
    node_id: SwarmId
    generation: Generation
    worker_version: Version
    max_removals: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Removals that the worker's own settings allow a run; None: the worker is older than this field."""
    started_at: Timestamp
    finished_at: Timestamp
    outcome: Outcome
    error: Text | None = None
    limitations: Annotated[tuple[Text, ...], Field(max_length=MAX_LIMITATIONS, fail_fast=True)] = ()
    """What this worker could not look at, or left alone (`ORPHANS_LEFT`)."""
    devices: Annotated[tuple[DeviceReport, ...], Field(max_length=MAX_DEVICES, fail_fast=True)] = ()
    missing: Annotated[tuple[SwarmId, ...], Field(max_length=MAX_NETWORKS, fail_fast=True)] = ()
    """Networks with a running task that have lacked a device for longer than a start takes."""
    recheck_after: Annotated[float, Field(ge=0)] | None = None
    """Seconds until another run can prove more."""
    wants_reading: bool = False
    """A device looks dead and unwanted: read the Swarm for this node after this report."""
    then_run: bool = False
    """Request a run as soon as that was read."""
    expects_rejection: bool = False
    """A device looks dead whose network is wanted: look for a rejected task, which would be the proof."""
    stamp: Stamp
    """When it was made."""
    controller_keys: Annotated[tuple[KeyId, ...], Field(max_length=2, fail_fast=True)] = ()
    """The controllers' keys that this worker believes."""
    journal_id: UUID | None = None
    entries: Annotated[tuple[JournalEntry, ...], Field(max_length=MAX_ENTRIES, fail_fast=True)] = ()


class Drift(Message):
    """Worker to controller: these devices have been idle for a while, look now."""

    version: Literal[1] = 1
    node_id: SwarmId
    at: Timestamp
    devices: Annotated[
        tuple[DeviceIdentity, ...], Field(min_length=1, max_length=100, fail_fast=True)
    ]
    """Some of them: the run takes the full look."""
    stamp: Stamp
    """When it was made."""


class JoinProof(Message):
    """The holder of a join token vouches for a node's key."""

    token: KeyId
    """Of the token's public key."""
    signature: SignatureText


class KeyChange(Message):
    """The holder of a node's previous key vouches for its new one."""

    previous: KeyId
    signature: SignatureText


class Introduction(Message):
    """A node's public key, and who vouches for it."""

    key: KeyText
    """The key that signed the message."""
    join: JoinProof | None = None
    change: KeyChange | None = None


class Hello(Message):
    """Worker to controller: started, without a request for too long, or with other devices; request a run."""

    version: Literal[1] = 1
    node_id: SwarmId
    worker_version: Version
    at: Timestamp
    reason: Text
    changed: bool = False
    """Its devices are not those of its last report: less urgent than drift."""
    introduction: Introduction | None = None
    """The key that it signs with; None: the controllers said that they believe it."""
    broker_password: PasswordDigest | None = None
    """Of the node's own user of the broker; None: it has none."""


class SignOfLife(Message):
    """Worker, in the key of its node: it lives. Each differs from the one before."""

    version: Literal[1] = 1
    node_id: SwarmId
    """The node that it serves; the key has the id that the node has by now."""
    worker_version: Version
    session: UUID
    """Of the process."""
    count: Annotated[int, Field(gt=0, lt=2**63)]
    every: Annotated[float, Field(gt=0, le=1e6)]
    """Seconds until the next."""
    ended: bool = False
    """It is the last: the worker was stopped."""
