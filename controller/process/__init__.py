"""What runs in which process and thread.

`controller` is the process: it serves the API, and `leader_loops` are the threads of the one that leads, each
repeated by `loops`; `consumer` takes messages from the broker. `all_in_one` has a worker in the same process.
`settings` say how.
"""
