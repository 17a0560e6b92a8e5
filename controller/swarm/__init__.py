"""The Swarm, and the desired state that follows from it.

`model` (values), `parsing` (of JSON), `manager` (the Docker API), `managers` (which one is asked),
`desired` (which network belongs on which node), `store`
(storing it); `full` and `incremental` (the two kinds of reading, over `reader`), `shrink_guard` (losses to be
confirmed), `sync` (which reading is due), `budget` (of the manager's time), `events` (hints), `readings` (the
newest of each node); `rejections` (recording rejected tasks), `faults` (the fault in a task's error, and its
VNI), `close_watch` (nodes where a rejection is expected), `healing` (how long it takes until the task
runs again).
"""
