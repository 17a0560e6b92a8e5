"""The agent on every node: it looks at the kernel, judges, removes what is proved dead, and reports.

Read along the way of the data: `kernel` (asking it), `idle` (since when a device is idle), `networks` (the
Swarm's, by VNI), `ownership`, `ports`, `proof` and `judge` (pure: what it means), `allowance` (pure: which
orphans may go), `trust` (whose requests, by which key), `memory` (what was heard, across restarts), `login`
(the node's user of Redis), `remove` with `recheck`, `link_group` and `journal` (acting, with a record),
`reconcile` (one run from request to report), `watch` (link events: look now), `outbox` (reports and hints
until they are sent), `watchdog` (whether requests still come), `beacon` (signs of life), `pulse` and
`healthcheck` (the same, on the node itself), `second_worker` (whether another serves the node), `metrics` and
`metrics_server` (for Prometheus), `agent` and `run` (the Celery side), `scan`, `doctor`,
`udp_port`, `key_command`, `by_hand`, `scan_output`, `scan_journal`, `journal_path` and `docker_socket`
(without Celery), `access` and `capabilities`, `settings`, `options` and `cli` (how it is started).
"""
