"""Names of the queues and tasks, and which task is sent to which queue."""

from typing import Final

CONTROLLER_QUEUE = "controller"
"""Where workers send reports and drift; the controllers consume it."""

RECONCILE_TASK = "worker.reconcile"
REPORT_TASK = "controller.report"
DRIFT_TASK = "controller.drift"
HELLO_TASK = "controller.hello"
ALIVE_TASK = "controller.alive"
"""What a sign of life is signed as; no task, for it lies in a key of Redis."""
PING_TASK = "controller.ping"
"""A controller to itself, through the broker: whether its own consumer still consumes."""
WORKER_PING_TASK = "worker.ping"
"""The same of a worker, to its node's queue."""

PROBE_KEY: Final = "controller.probe"
"""The list by which controllers test whether the broker takes messages; always empty."""

_CONTROLLER_TASKS: Final = frozenset({REPORT_TASK, DRIFT_TASK, HELLO_TASK, PING_TASK})
_NODE_TASKS: Final = frozenset({RECONCILE_TASK, WORKER_PING_TASK})


def node_queue(node_id: str) -> str:
    """Return the name of the queue that only the worker on node `node_id` consumes."""
    return f"node.{node_id}"


def alive_key(node_id: str) -> str:
    """Return the key of Redis that holds the sign of life of a node's worker."""
    return f"node.{node_id}.alive"


def tasks_of(queue: str) -> frozenset[str]:
    """The tasks that are sent to a queue."""
    return _CONTROLLER_TASKS if queue == CONTROLLER_QUEUE else _NODE_TASKS
