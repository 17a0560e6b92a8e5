"""The database.

Tables in `models`, `audit_models`, `access_models`, `key_models`, `notification_models`, with `restrictions`,
`types` and `states`, `pauses` in words; `engine`, `postgresql`, `schema`, `sql_functions`, `bulk`, `lookup`.
"""
