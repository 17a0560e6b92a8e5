"""The database: tables (`models`, `audit_models`, `types`, `states`), `engine`, `schema` and `lookup`."""
