"""The conditions of each node and of the cluster, as in Kubernetes: docs/conditions.md.

`model` defines conditions, `node` and `cluster` derive them (pure) from `facts`, which are read from the
rows; `store` keeps the stored conditions up to date.
"""
