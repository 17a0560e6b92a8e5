"""What the Swarm says, and the desired state that follows.

`model` (what it says), `manager` (asking it), `desired` (which network belongs on which node), `shrink_guard`
(what is not believed at once), `store` (storing desired state), `sync` (doing so again and again), `budget`
(of the manager's time), `events` (hints to look sooner) and `readings` (when each node was read last).

`rejections` are tasks that failed of one of the `faults`; `cause` tells the VNI that a rejection is about,
and `close_watch` looks for rejections where one is expected.
"""
