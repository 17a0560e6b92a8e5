"""The audit trail: what was done, and why, for good.

Read `append` (adding rows), `chain` (what their hashes cover), `recorded` (what of a report is for good).
`verify` checks the chain, `archive` is its form as a file, `export` streams it, `retention` prunes it, and
`custodian` looks after it.

What people ask of it: `pages` by any filters, `stories` of one run, `counts` of removals; by `names` and
`moments` as they type them.
"""
