"""What happens: in the Swarm, to the controller and the worker, and with time."""

from datetime import timedelta
from typing import Final

from contract.verdicts import Mode
from controller.safety.breaker import BreakerLimits
from tests.fake_swarm import swarm_id
from tests.scenarios.controller import LIFETIME, Terms
from tests.scenarios.errors import ScenarioError
from tests.scenarios.language import command
from tests.scenarios.usage import Arguments, duration
from tests.scenarios.world import World, checked_name

_STATES: Final = (
    "new",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "shutdown",
    "failed",
    "rejected",
    "remove",
    "orphaned",
)
_TO_SHUTDOWN: Final = ("complete", "shutdown", "remove", "orphaned")

_BETWEEN_LOOKS: Final = timedelta(seconds=5)
"""Of the link watch, while something looks dead."""


@command("wait DURATION")
def wait(world: World, given: Arguments) -> None:
    """Let time pass; nobody looks meanwhile."""
    seconds = duration(given["DURATION"]).total_seconds()
    if seconds <= 0:
        raise ScenarioError("time does not go back")
    world.clock.advance(seconds)


def _mode(given: Arguments) -> Mode | None:
    mode = given.get("mode")
    if mode is not None and mode not in list(Mode):
        raise ScenarioError(f"mode={mode}: there are {', '.join(Mode)}")
    return None if mode is None else Mode(mode)


# The Swarm.


@command("swarm node NAME [down] [mode=MODE]")
def swarm_node(world: World, given: Arguments) -> None:
    """A node; the worker is on the first one."""
    world.manager.node(
        checked_name(given["NAME"]),
        state="down" if given.flag("down") else "ready",
        mode=_mode(given),
    )


@command("swarm network NAME vni=VNIS subnet=SUBNETS [ingress] [ignore] [mode=MODE]")
def swarm_network(world: World, given: Arguments) -> None:
    """An overlay network with a VNI a subnet."""
    world.manager.network(
        checked_name(given["NAME"]),
        given.list("vni"),
        given.list("subnet"),
        ingress=given.flag("ingress"),
        mode=_mode(given),
        ignore=given.flag("ignore"),
    )


def _task(world: World, given: Arguments, state: str, error: str, *, container: bool) -> None:
    unknown = [
        *(each for each in given.list("of") if each not in world.manager.network_names),
        *(each for each in (given["on"],) if each not in world.manager.node_names),
    ]
    if unknown:
        raise ScenarioError(f"the Swarm has no {', '.join(unknown)}")
    if state not in _STATES:
        raise ScenarioError(f"{state!r} is no task state: {', '.join(_STATES)}")
    desired = "shutdown" if state in _TO_SHUTDOWN else "running"
    world.manager.task(
        checked_name(given["NAME"]),
        networks=given.list("of"),
        node=given["on"],
        state=state,
        desired=given.get("desired") or desired,
        error=error,
        at=world.clock() + (given.duration("at") or timedelta()),
        container=container,
    )


@command("swarm task NAME of=NETWORKS on=NODE STATE [ERROR] [desired=STATE] [at=DURATION]")
def swarm_task(world: World, given: Arguments) -> None:
    """A service's task on a node, or its next state."""
    _task(world, given, given["STATE"], given.get("ERROR") or "", container=False)


@command("swarm container NAME of=NETWORKS on=NODE [desired=STATE] [at=DURATION]")
def swarm_container(world: World, given: Arguments) -> None:
    """A `docker run` container on attachable networks."""
    _task(world, given, "running", "", container=True)


@command("swarm remove NAME")
def swarm_remove(world: World, given: Arguments) -> None:
    """A node, network or task goes."""
    if not world.manager.remove(given["NAME"]):
        raise ScenarioError(f"the Swarm has no {given['NAME']}")


@command("swarm port PORT")
def swarm_port(world: World, given: Arguments) -> None:
    """The data path port."""
    world.manager.port = given.whole("PORT")


@command("swarm no-quorum")
def swarm_no_quorum(world: World, _: Arguments) -> None:
    """The manager answers no question."""
    world.manager.quorum = False


@command("swarm quorum")
def swarm_quorum(world: World, _: Arguments) -> None:
    """It answers again."""
    world.manager.quorum = True


# The controller asks, the worker works.


@command(
    "run [unread] [lost] [to=NODE] [issued=DURATION] [valid=DURATION] [fence=NUMBER] [mode=MODE]"
)
def run(world: World, given: Arguments) -> None:
    """Read the Swarm, ask for a run, and take in its report."""
    if not given.flag("unread"):
        world.controller.read()
    fence, to = given.number("fence"), given.get("to")
    terms = Terms(
        to=world.node_id if to is None else swarm_id(to),
        issued_after=given.duration("issued") or timedelta(),
        lifetime=given.duration("valid") or LIFETIME,
        fence=1 if fence is None else fence,
        mode=_mode(given) or Mode.ENFORCE,
    )
    world.request = world.controller.request(terms)
    _deliver(world, lost=given.flag("lost"))


@command("redeliver")
def redeliver(world: World, _: Arguments) -> None:
    """The last request reaches the worker once more."""
    _deliver(world, lost=False)


def _deliver(world: World, *, lost: bool) -> None:
    if world.request is None:
        raise ScenarioError("there was no request yet")
    world.report = world.node.run(world.request)
    if world.report is not None and not lost:
        world.controller.take_in(world.report)


@command("watch [DURATION]")
def watch(world: World, given: Arguments) -> None:
    """The worker's link watch looks, now and every five seconds, and the controller hears of it."""
    node, left = world.node, given.duration("DURATION") or timedelta()
    while True:
        node.idle.saw(node.kernel.look().devices)
        world.controller.readings.add_stamp(world.node_id, node.idle.stamp())
        if not left:
            return
        step = min(left, _BETWEEN_LOOKS)
        left -= step
        world.clock.advance(step.total_seconds())


@command("controller budget NUMBER")
def controller_budget(world: World, given: Arguments) -> None:
    """How many devices the breaker lets this node remove."""
    world.controller.limitations = BreakerLimits(node_removals=given.whole("NUMBER"))


@command("worker start [mode=MODE] [max-removals=NUMBER] [grace=DURATION] [unclaimed=DURATION]")
def worker_start(world: World, given: Arguments) -> None:
    """The worker is started anew, with these settings."""
    node = world.node
    node.mode = _mode(given) or node.mode
    if (most := given.number("max-removals")) is not None:
        node.max_removals = most
    if (grace := given.duration("grace")) is not None:
        node.grace = grace.total_seconds()
    if (unclaimed := given.duration("unclaimed")) is not None:
        node.unclaimed = unclaimed.total_seconds()
    node.restart()


@command("worker killed")
def worker_killed(world: World, _: Arguments) -> None:
    """The worker dies at once, also in the middle of a run, and is started again."""
    world.node.kill()


@command("journal full")
def journal_full(world: World, _: Arguments) -> None:
    """So much is unacknowledged that the journal takes no more plans."""
    world.node.fill_journal()


@command("disk full")
def disk_full(world: World, _: Arguments) -> None:
    """Nothing can be written to the journal."""
    world.node.disk_full = True


@command("disk free")
def disk_free(world: World, _: Arguments) -> None:
    """It can again."""
    world.node.disk_full = False


@command("scan exit=STATUS [fix] [remove=DEVICE] [grace=DURATION]")
def scan(world: World, given: Arguments) -> None:
    """A person runs `vxlan-worker scan` on the node."""
    grace = given.duration("grace")
    status, world.scanned = world.node.scan(
        fix=given.flag("fix"),
        remove=given.get("remove"),
        grace=None if grace is None else grace.total_seconds(),
    )
    if status != given.whole("exit"):
        raise ScenarioError(f"exit status {given['exit']} is expected, and it is {status}")
