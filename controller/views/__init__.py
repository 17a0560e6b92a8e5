"""Questions of people and Prometheus; only the API imports them.

`queries`, `events`, `diff`, `plan`, `metrics`, and `explain`, with `directory` (nodes and networks by what a
text calls them) and `outlook` (a VNI on a node).
"""
