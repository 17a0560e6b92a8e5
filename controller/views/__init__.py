"""Questions of people and Prometheus; only the API imports them.

`queries`, `events`, `diff`, `plan`, `restricted` (nodes and networks), `steps` (of a run), `metrics`, and
`explain`, with `directory` (nodes and networks by what a text calls them) and `outlook` (a VNI on a node).
"""
