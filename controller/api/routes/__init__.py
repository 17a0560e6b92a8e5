"""The routes of the API, a module for each subject; `routes(context)` returns a module's router.

`status`, `nodes`, `networks`, `devices`, `runs`, `requeue`, `safety`, `audit`, `chain`, `explain`,
`metrics`.
"""
