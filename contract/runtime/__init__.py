"""What both programs share at run time.

`broker` (how Celery is set up), `transport` (what is let in from Redis), `consumer` (one task at a time),
`selftest` and `restart` (a consumer that hangs), `settings`, `logs`, `errors`,
`exit_status`, `text` and `files` (replacing one).
"""
