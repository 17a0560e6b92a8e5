"""The controller: it stores what each node should carry, asks workers to look, and keeps the record.

From the top to the bottom, each package imports only those below it: `cli` (the command `vxctl`), `process`
(what runs in which thread), `web` (the dashboard), `api` (HTTP), `views` (what people ask), `explain` (what
an error text says), `notifications` (who is told of what), `runs` (one run from claim to stored report),
`traces` (a run as spans, for a collector), `swarm` (desired state), `trust` (whose messages are believed),
`safety` (what may be done), `access` (who may use the API), `workqueue` (when each node is due), `health`
(what this process knows of its broker and database), `conditions`, `audit` and `leadership`, `db`.
`timespec` reads times.
"""
