"""Lists that are followed: `watch=true` answers with server-sent events instead of a page.

`sources` (nodes, devices) and `history` (runs, audit rows) read the rows of a list, `topic` compares them
with those before and keeps the last events, `changes` tells cheaply whether anything was written, and
`broadcaster` has the one thread that does all that. `stream` is what one client gets.
"""
