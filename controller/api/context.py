"""`Context`: the database, settings and functions that the routes use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from contract.verdicts import Mode
from controller.access.trusted_proxy import TrustedProxy
from controller.access.usage import Usage
from controller.api.same_site import LOOPBACK, Hosts
from controller.api.turns import Turns
from controller.db.engine import Database
from controller.health.live import Health
from controller.notifications.send import Outgoing
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.trust.keyring import Keyring
from controller.workqueue.queue import Notify
from controller.workqueue.requeue import RequeueRequest


@dataclass(frozen=True, slots=True)
class Context:
    """The database, settings and functions that the routes use.

    Attributes:
        database: the source of the answers.
        mode: the mode in the settings; a person may have set another in the database.
        notify: wakes the dispatcher after a node was made due.
        requeue: stores and sends a request in the leader; None: this process only stores it.
        leading: whether this process leads.
        breaker: the breaker's limits.
        stale_after: the age at which a reading of the Swarm is stale.
        health: what this process knows of its broker and database.
        hosts: the hosts under which the API may be addressed.
        turns: how many requests of a kind are answered at a time.
        usage: remembers when each token was last used.
        proxy: whose headers name users; None: tokens alone count.
        outgoing: how notifications leave.
        keys: of this process, to be read again once somebody decided about one; None: it has none.
        trace_url: pattern of the URL of a run's trace; empty: traces have none.
    """

    database: Database
    mode: Mode
    notify: Notify
    requeue: Callable[[RequeueRequest], None] | None = None
    leading: Callable[[], bool] = lambda: True
    breaker: BreakerLimits = DEFAULTS
    stale_after: timedelta = timedelta(minutes=3)
    hosts: Hosts = LOOPBACK
    turns: Turns = field(default_factory=Turns)
    health: Health = field(default_factory=Health)
    usage: Usage = field(default_factory=Usage)
    proxy: TrustedProxy | None = None
    outgoing: Outgoing = field(default_factory=Outgoing)
    keys: Keyring | None = None
    trace_url: str = ""
