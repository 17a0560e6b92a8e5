"""The agent on every node: it looks at the kernel, judges, removes what is dead, and reports.

Read along the way of the data: `view` (what a look shows), `netlink` and `kernel` (how to look),
`ownership` and `judge` (pure: what it means), `idle` (since when), `remove` and `journal` (acting,
with a record), `reconcile` (one run from request to report), `watch` (link events: look now),
`outbox` (what there is to say, until it is said), `agent` and `tasks` (the Celery side),
`settings`, `cli` and `local` (how it is started).
"""
