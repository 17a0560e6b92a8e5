"""What may be done: `modes` (and `labels`), `decisions` of people, `expiry` of pauses, the `breaker`."""
