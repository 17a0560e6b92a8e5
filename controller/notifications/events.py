"""The events that people can be told of, with their fixed words. Pure."""

from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

SITE: Final = "https://vxlan-operator.readthedocs.io"
"""Where the documents are, unless the settings name a copy."""


class Event(StrEnum):
    """What is told; docs/notifications.md has a section for each."""

    ORPHAN_REMOVED = "orphan_removed"
    """An orphan was removed, and a second look showed that it is gone."""
    REMOVAL_FAILED = "removal_failed"
    """The kernel refused a removal, or the device is still there after it."""
    TASKS_REJECTED = "tasks_rejected"
    """A node rejects tasks or cannot have a network's device, and nothing was done about it."""
    NODE_SILENT = "node_silent"
    """A node is down, or its worker reports nothing, or nothing that counts."""
    NODE_STALLED = "node_stalled"
    """Runs of a node fail again and again."""
    CLOCK = "clock"
    """A node's worker refuses requests as late or stale: clocks differ."""
    BREAKER_TRIPPED = "breaker_tripped"
    """Too much was removed at once, and nothing more is until somebody resets the breaker."""
    DESIRED_STATE_UNKNOWN = "desired_state_unknown"
    """The Swarm cannot be read."""
    BROKER_UNREACHABLE = "broker_unreachable"
    """The leader cannot use the broker."""
    MESSAGES_REFUSED = "messages_refused"
    """Messages were refused: not signed, by an unknown key, repeated, late, or damaged."""
    CERTIFICATE = "certificate"
    """A certificate of this controller ends soon, has ended, or cannot be read."""
    TARGET_FAILS = "target_fails"
    """A target of notifications takes none: told on the others."""


TEST: Final = "test"
"""The event of what `vxctl notify test` sends; no target can leave it out."""


class Texts(NamedTuple):
    """What is said of an event, without any name from elsewhere.

    Attributes:
        title: in a line.
        todo: what to do; NODE: the node's name.
        over: the title of the problem's end; empty: it is no state, and has none.
        counted: of what is no state: what is counted, in the singular.
        hold: how long a problem lasts before it is told; many pass by themselves.
    """

    title: str
    todo: str
    over: str = ""
    counted: str = ""
    hold: timedelta = timedelta(0)


TEXTS: Final = {
    Event.ORPHAN_REMOVED: Texts(
        "Orphan removed",
        "nothing: tasks can have the network there again",
        counted="removal",
    ),
    Event.REMOVAL_FAILED: Texts(
        "Removal failed",
        "nothing yet: the next run tries again; if this comes again and again, `vxctl status` says what it "
        "needs",
        counted="failed removal",
    ),
    Event.TASKS_REJECTED: Texts(
        "Tasks are rejected, and nothing was done",
        "as said under `why`; `vxctl describe node NODE` shows all",
        over="Tasks are no longer rejected",
        hold=timedelta(seconds=60),
    ),
    Event.NODE_SILENT: Texts(
        "Node silent",
        "as said under `why`; until then nothing is removed there",
        over="Node reports again",
        hold=timedelta(seconds=10),
    ),
    Event.NODE_STALLED: Texts(
        "Runs fail",
        "as said under `why`; `vxctl describe node NODE` shows the last runs",
        over="Runs succeed again",
        hold=timedelta(seconds=10),
    ),
    Event.CLOCK: Texts(
        "Requests are refused as late: clocks differ",
        "compare the clocks of the node and of the controllers (`timedatectl`); until then nothing is "
        "removed there",
        over="Requests are accepted again",
        hold=timedelta(seconds=10),
    ),
    Event.BREAKER_TRIPPED: Texts(
        "Breaker tripped: nothing is removed",
        "find out with `vxctl audit --node NODE` why so much leaks, then `vxctl breaker reset NODE`",
        over="Breaker reset: orphans are removed again",
    ),
    Event.DESIRED_STATE_UNKNOWN: Texts(
        "The Swarm cannot be read",
        "look at the managers: `vxctl status` says what is wrong",
        over="The Swarm is read again",
        hold=timedelta(seconds=60),
    ),
    Event.BROKER_UNREACHABLE: Texts(
        "The broker cannot be used",
        "start Redis, or correct what is named under `why`; `vxctl doctor` checks it",
        over="The broker works again",
        hold=timedelta(seconds=30),
    ),
    Event.MESSAGES_REFUSED: Texts(
        "Messages were refused",
        "if it goes on, find out who sends them: `vxctl node keys` shows whose keys are believed",
        over="No more messages are refused",
    ),
    Event.CERTIFICATE: Texts(
        "Trouble with a certificate",
        "put a new certificate in its file; it is read again by itself",
        over="The certificate is fine again",
    ),
    Event.TARGET_FAILS: Texts(
        "Notifications are not taken",
        "as said under `why`; what waits is tried again for a day",
        over="Notifications are taken again, or their target was removed",
        hold=timedelta(seconds=300),
    ),
}


def runbook(event: Event, site: str = SITE) -> str:
    """Return the address of what the documents at `site` say about an event."""
    return f"{site}/notifications.html#{event.value.replace('_', '-')}"
