"""What crosses the wire between controller and worker; it imports nothing of either.

Read `verdicts` (the words), `messages` (what they say to each other) and `queues` (where); `local` is both
sides in one process, and `runtime` what both programs share when they run.
"""

from importlib.metadata import version

VERSION = version("vxlan-operator")
