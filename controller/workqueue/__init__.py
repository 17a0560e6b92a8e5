"""When each node is due, as rows.

`queue` (the rules, and how runs begin), `under_way` (how they end), `priorities`, `requeue` (a person asks
for a run), `clock` (times that a wrong clock set), `retention` (forgetting old runs).
"""
