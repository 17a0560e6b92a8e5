"""The database: `engine`, `schema`, `models`, `audit_models`, `types`, `states`, `sql_functions`, `lookup`."""
