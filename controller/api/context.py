"""What the routes are given to answer from."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from contract.verdicts import Mode
from controller.api.same_site import LOOPBACK, Hosts
from controller.db.engine import Database
from controller.runs.dispatch import Ask
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.workqueue.queue import Notify


@dataclass(frozen=True, slots=True)
class Context:
    """What the routes are given to answer from.

    Attributes:
        database: what the answers come from.
        mode: what the settings allow workers to do; a person may have set another in the database.
        ring: called when a node was made due.
        at_once: asks for runs and sends them, in the process that leads; None where nothing is sent.
        leading: whether this process leads.
        breaker: when the breaker trips.
        stale_after: how old what is known of the Swarm may be.
        hosts: under which hosts the API may be addressed; those of loopback unless told.
    """

    database: Database
    mode: Mode
    notify: Notify
    at_once: Callable[[Ask], None] | None = None
    leading: Callable[[], bool] = lambda: True
    breaker: BreakerLimits = DEFAULTS
    stale_after: timedelta = timedelta(minutes=3)
    hosts: Hosts = LOOPBACK
