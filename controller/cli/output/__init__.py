"""Output of `vxctl`.

`formats` has single values, and prints an answer in the format asked for: for programs by `structured`, for
people by `phrases` in words and `columns` of a `table` (`widths`, `colours`). `audit_rows` prints rows of the
audit trail, `timeline` those of one run; `folding` folds repeated events. `watch` redraws a view, `pager` has
what is longer than a screen. `style` has what the options of every verb say.
"""
