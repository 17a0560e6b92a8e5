"""One run from claim to stored report.

`requests` (their contents), `dispatch` (sending them), `inbox` and `reports` (storing reports), `hints`,
`devices` (storing what a report showed), `removals` (counting those recorded), `presence` (workers' signs of
life), `seen` (when a worker was), `pace` (how soon a worker gets the run that it asks for), `counters` (what
Prometheus counts).
"""
