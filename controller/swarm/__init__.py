"""What the Swarm says, and the desired state that follows.

Read `values` (what it says), `manager` (asking it), `wanted` (which network belongs on which node), `store`
(storing that), and `sync` (doing so again and again), which keeps to a `budget` of the manager's time,
notes its `readings` of each node, and looks sooner where `events` hint at it, and at `rejections`: tasks that
failed of one of our `faults`, and the VNI that each has to `blame`; a `close_watch` looks for those where one
is expected.
"""
