"""What runs in which process and thread.

`controller` is the process: it serves the API by `http`, with the certificate of `tls`, and by `waiting`
until it can start; `leader_loops` are the leader's threads, repeated by `loops`; `consumer` takes messages
from the broker. `arenas` bounds the memory that threads keep. `healthcheck` is that of the image.
`all_in_one` adds a worker. `settings` configure it, `docker_settings` the way to Docker, `notify_settings`
how notifications leave; `certificates` looks at the ends of all certificates.
"""
