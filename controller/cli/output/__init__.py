"""Output of `vxctl`.

`formats` has single values, `phrases` wording, `columns` the columns of each `table`; `audit_rows` prints
rows of the audit trail, `timeline` those of one run; `folding` folds repeated events; `watch` redraws a view.
"""
