"""The Swarm labels of nodes and networks that the operator obeys."""

from typing import Final

MODE_LABEL: Final = "vxlan-operator.mode"
IGNORE_LABEL: Final = "vxlan-operator.ignore"
