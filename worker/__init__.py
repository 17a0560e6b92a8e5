"""The agent on every node: it looks at the kernel, judges, removes what is proved dead, and reports.

Read along the way of the data: `view` (what a look shows), `port` (what is asked of a kernel), `netlink`,
`linkmsg` and `kernel` (how the real one is asked), `idle` (since when a device carries nothing), `networks`
(what is known of the Swarm), `ownership`, `proof` and `judge` (pure: what it means), `joins` (which may be
under way), `allowance` (pure: which orphans may go), `remove` and `journal` (acting, with a record),
`reconcile` (one run from request to report), `watch` (link events: look now), `outbox` (what there is to
say, until it is said), `watchdog` (whether anybody still asks), `agent` and `run` (the Celery side), `scan`
and `names` (without Celery), `access`, `settings`, `cli` and `local` (how it is started).
"""
