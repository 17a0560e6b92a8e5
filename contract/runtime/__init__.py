"""What both programs share at run time.

`broker` (how Celery is set up), `probe` (whether Redis takes messages), `presence` (signs of life),
`transport` (what is let in from Redis), `memory_transport` (that of `vxctl up`), `refusals` (what is not let
in), `key_file` (private keys), `acl` (Redis' users), `password_file` (their passwords), `consumer` (one task
at a time), `selftest` and `restart` (a consumer that hangs), `startup` (waiting for what is away),
`settings`, `secret_file` (secret ones), `broker_settings`, `broker_errors` (what Redis refuses), `sentinels`
(asking them for the master), `variables` (names of settings), `logs`, `outages` (what is logged while the
broker is away), `throttle` (what repeats), `errors`, `exit_status`, `text` and `files` (replacing one),
`client_tls` (certificates for Redis and Docker), `dockerd` (questions to one), and `doctor`.
"""
