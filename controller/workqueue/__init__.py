"""When each node is due, as rows.

`queue` (the rules), `priorities`, `requeue` (a person asks for a run), `retention` (forgetting old runs).
"""
