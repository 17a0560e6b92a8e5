"""The HTTP API: a route for each question and action, and its answer.

`routes` (by subject) read from a `context`, or change by `acting`, take `parameters` (`audit_parameters` for
the audit trail; `selection` of fields), page lists by `cursor`, and return `answers` or `problems`, whose
catalogue is `problem_types`; `representation` adds ETags. `access` lets in callers whose token has the role
that a route declares, `same_site` refuses requests of other web sites, `json_only` those with another body,
`bounds` those that are too long, `turns` those that are too many. `watch` follows lists,
`specification` describes all in OpenAPI, `app` assembles all.
"""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Of requests that change nothing, and have no body."""
IDENTITY_HEADER = "X-Vxlan-Operator"
"""In every answer, with the version: `vxctl` tells by it that a controller answered."""
