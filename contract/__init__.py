"""What crosses the wire between controller and worker; it imports nothing of either.

Read in this order: `verdicts` (the words), `messages` (what they say to each other), `queues` (where),
`broker` (how Celery is set up on both sides), `transport` (what is let in from Redis), `local` (both sides
in one process), and what both programs share: `settings`, `errors`, `text`, `logs`, `selftest`
and `restart`.
"""

from importlib.metadata import version

VERSION = version("vxlan-operator")
