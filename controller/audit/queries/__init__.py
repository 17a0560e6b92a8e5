"""Queries: `pages` by any filters, `timeline` of a run, `counts` of removals; `resolve` of names."""
