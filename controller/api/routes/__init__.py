"""The routes of the API, a module for each subject; `routes(context)` returns a module's router.

`status`, `version`, `nodes`, `networks`, `devices`, `runs`, `requeue`, `safety`, `events`, `diff`, `audit`,
`chain`, `explain`, `metrics`, `openapi`, `problem_pages`, `tokens`, `controller_keys`, `node_keys`,
`join_tokens`, `notifications`; `watch` follows four of the lists.
"""
