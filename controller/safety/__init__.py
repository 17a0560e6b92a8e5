"""What may be done, and what is held back.

`modes` (and `labels`), `decisions` of people, `expiry` of pauses, the `breaker`,
what holds a removal back (`holding`), `suppressed` removals.
"""
