"""In which state each node and the cluster are, in the manner of Kubernetes: docs/conditions.md.

Read `words` (what a condition is), `node` and `cluster` (concluding them, pure), and `keep` (storing them).
"""
