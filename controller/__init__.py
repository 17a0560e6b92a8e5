"""The controller: it decides, and remembers.

Read along the way of the data: `swarm` (what the Swarm says, and desired state), `due` (which node is to be
looked at when), `requeue` (a person asks for that), `modes` (what may be done there), `decisions` (what
people decide), `breaker` (when too much is removed), `requests` (what a worker is told), `dispatch`
(sending it), `consumer`, `inbox` and `intake` (taking in reports), `gate` (urgent work first), `devices`
(those that they showed), `audit` (the trail), `housekeeping` (forgetting), `conditions` (in which state
they are), `queries` (what people ask), `explain` (what an error line means) and `metrics` (what Prometheus
asks), with `models`, `database` and its `upgrade` below all of them. `functions` are SQL's, `states` are
words.

`run` is the process: everybody serves the `api`, and one of them leads (`leader`). `leading` is what only
that one does, in `loops`; `local` has a worker in the same process; all is done by `settings`. `cli` is what
people type.
"""
