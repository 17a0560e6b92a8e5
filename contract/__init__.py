"""What crosses the wire between controller and worker; it imports nothing of either.

`verdicts` has the words, `messages` what is sent, `queues` where to; `runtime` is what both programs share
when they run.
"""

from importlib.metadata import version

VERSION = version("vxlan-operator")
