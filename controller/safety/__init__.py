"""What may be done: `modes` (and Swarm `labels`), `decisions` of people, and the `breaker`."""
