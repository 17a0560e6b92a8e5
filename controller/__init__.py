"""The controller: it decides, and remembers.

Read along the way of the data: `swarm` (what the Swarm says), `manager` (asking it), `wanted` (which
network belongs on which node), `desired` (storing that), `due` (which node is to be looked at when),
`requeue` (a person asks for that), `modes` (what may be done there), `decisions` (what people decide),
`breaker` (when too much is removed), `dispatch` (sending requests), `intake` (taking in reports),
`recorded` (what of them is for good), `audit` (adding to the audit trail), `housekeeping` (forgetting),
`node_conditions` and `cluster_conditions` (in which state they are, in the words of `conditions`) and
`status` (keeping those), `queries` (what people ask), `trail`, `stories` and `counts` (what they ask of
the audit trail, by `names` and `moments` as they type them), `explain` (what an error line means) and
`metrics` (what Prometheus asks), with `models`, `database` and its `upgrade` below all of them.
`states` and `faults` are words.

The audit trail is a `chain`: `verify` checks it, `archive` is its form as a file, `export` streams it,
`retention` prunes it, and `custodian` looks after it.

`sync` (within its `budget`, with `rejections`), `events`, `dispatch` and `consumer` are the threads of the
one controller that leads (`leader`); `run` starts them in `loops`, `local` with a worker in the same
process, by `settings`; `api` and `cli` are for people.
"""
