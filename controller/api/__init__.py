"""The HTTP API: routes are thin, each a query and its answer.

`nodes`, `requeue`, `safety`, `audit`, `chain`, `explain` and `metrics` are the routes, answering from a
`context`, with `parameters` (`questions` and `cursor` are those of the audit trail); `answers` are what
answers look like, `problems` what errors look like; `same_site` refuses what other web sites ask for;
`app` puts them together.
"""

IDENTITY_HEADER = "X-Vxlan-Operator"
"""On every answer, with the version: how `vxctl` knows that a controller answered and nobody else."""
