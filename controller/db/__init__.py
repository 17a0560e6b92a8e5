"""The database: `models`, `audit_models`, `types`, `states`, `engine`, `schema`, `sql_functions` and `lookup`."""
