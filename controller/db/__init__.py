"""The database.

Tables (`models`, `audit_models`, `types`, `states`), the `engine`, the `schema`, `sql_functions`, `lookup`
by name, and `pauses` (their phrase).
"""
