"""Signed messages: an envelope of text around each, which only the holder of a known key can make.

Read in this order: `refusals` (why a message does nothing), `keys` (Ed25519, by `cryptography`), `bounds`
(bytes and lifetime of each task's messages), `dates` (in their order, whatever the clock), `replays` (each
message once), `envelope` (`Signer` seals, `Opener` opens), `join` (a node's first key, and its next),
`succession` (the controllers' next). Pure: no files, no broker, no log.
"""
