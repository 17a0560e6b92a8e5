"""The HTTP API: `schema` (what answers look like), `problems` (what errors look like), `app` (the routes)."""

IDENTITY_HEADER = "X-Vxlan-Operator"
"""On every answer, with the version: how `vxctl` knows that a controller answered and nobody else."""
