"""Boots several real dockerds on one machine as one Swarm, for tests and for demonstrations.

    with Lab.create("tests") as lab:
        lab.manager.docker("service", "create", "--detach", "--name", "web", "bb:1", "sleep", "600")
        lab.wait_tasks("web")

or, from a shell, `python -m tests.lab up`. A lab is one PID namespace: when its first process ends,
the kernel kills all the others, so nothing is left behind even if the owner gets SIGKILL.

Read `lab` first (what there is), then `launch` and `init` (how a lab lives and dies), `wiring` (its
namespaces), `dockerd`, `swarm` (how the nodes become one), and `faults`.
"""

from .errors import LabError
from .faults import HiddenDevice, Leak, OrphanDevice, sandbox
from .folder import reap
from .lab import Lab
from .link_signal import Link, LinkSignal, Moment
from .node import Node
from .swarm import LabNetwork, Task
from .wait import wait_until

__all__ = [
    "HiddenDevice",
    "Lab",
    "LabError",
    "LabNetwork",
    "Leak",
    "Link",
    "LinkSignal",
    "Moment",
    "Node",
    "OrphanDevice",
    "Task",
    "reap",
    "sandbox",
    "wait_until",
]
