"""The database.

Tables in `models`, `audit_models`, `access_models`, `key_models`, `notification_models`,
their `restrictions`, `types` and `states`, `pauses` in words; `engine`, `postgresql`, `schema`, `sql_functions`, `lookup`.
"""
