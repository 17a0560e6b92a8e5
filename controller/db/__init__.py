"""The database.

Tables (`models`, `audit_models`, `types`, `states`), the `engine`, the `schema`, `sql_functions`, and `lookup`
by name.
"""
