"""The database: `models`, their `states`, the `engine`, the `schema`, `sql_functions` and `lookup`."""
