"""The audit trail: what was done, and why, for good.

`append` (adding rows), `chain` (what their hashes cover), `report_entries` (what of a report is recorded),
`budget` (how many rows a node may cause), `clocks` (which times are credible). `verify` checks the chain,
`archive` is its form as a file, `export` streams it, `retention` prunes it, and `maintenance` does what is
due. `queries` answers what people ask.
"""
