"""The conditions of each node and of the cluster, as in Kubernetes: docs/conditions.md.

`model` defines conditions, `holds` what holds removals back, `node` and `cluster` derive conditions (pure)
from `facts`, which are read from the rows; `store` keeps the stored conditions up to date, and records
`changes` as events; `age` says which of them hold no longer.
"""
