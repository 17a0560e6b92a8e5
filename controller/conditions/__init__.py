"""In which state each node and the cluster are, in the manner of Kubernetes: docs/conditions.md.

`model` (what a condition is), `node` and `cluster` (concluding them, pure), `store` (storing them).
"""
