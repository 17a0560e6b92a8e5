"""What both programs share at run time.

`broker` (how Celery is set up), `probe` (whether Redis takes messages), `presence` (signs of life),
`transport` (what is let in from Redis), `refusals` (what is not), `key_file` (private keys), `consumer`
(one task at a time), `selftest` and `restart` (a consumer that hangs), `startup` (waiting for
what is away), `settings`, `broker_settings`, `variables` (names of settings), `logs`, `outages` (what is
logged while the broker is away), `throttle` (what repeats), `errors`, `exit_status`, `text` and `files`
(replacing one), `dockerd` (questions to one), and `doctor` (local diagnosis).
"""
