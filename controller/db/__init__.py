"""The database.

Tables in `models`, `audit_models`, `types` and `states`; `engine`, `schema`, `sql_functions`, `lookup`.
"""
