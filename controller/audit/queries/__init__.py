"""What people ask of the audit trail.

`pages` by any filters, `timeline` of one run, `counts` of removals; `resolve` finds the ids of names.
"""
