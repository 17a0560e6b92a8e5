"""What crosses the wire between controller and worker; it imports nothing of either.

Read in this order: `verdicts` (the words), `messages` (what they say to each other), `queues` (where),
`broker` (how Celery is set up on both sides), `settings` and `errors` (what both programs share).
"""

from importlib.metadata import version

VERSION = version("vxlan-operator")
