"""What an error text says, without a database: faults, and the names that they come with. Pure.

`text` (text as it was before terminals, logs and mail changed it), `catalogue` (the faults and devices that
are known, from `catalogue.toml`), `cut` (messages that were cut off), `clues` (names, ids, times in a
line; words that name nothing are in `words.txt`), `reading` (all faults of a text, in groups),
`sentences` (what a text lacks), `offline` (the answer without a controller).

The command line imports it: neither SQLAlchemy nor pydantic may be needed.
"""
