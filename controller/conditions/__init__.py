"""The conditions of each node and of the cluster, as in Kubernetes: docs/conditions.md.

`model` defines conditions, `holds` what holds removals back, `node` and `cluster` derive conditions (pure)
from `node_facts` and others, which `facts`, `keys` and `untaken` read from the rows as of an `instant`;
`store` keeps the stored conditions up to date, and records `changes` as events; `age` says which of them
hold no longer, `summary` what is wrong in a few words.
"""
