"""One run from claim to stored report.

`requests` (what a worker is sent), `dispatch` (sending it), `inbox` and `intake` (taking in reports),
`devices` (storing what a report showed), `counters` (what Prometheus counts).
"""
