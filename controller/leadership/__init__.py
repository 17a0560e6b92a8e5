"""Which controller leads: the `lease`, the `fenced` database, the `election`, and the `sqlite_lock`."""
