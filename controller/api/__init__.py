"""The HTTP API: `schema` (what answers look like), `problems` (what errors look like), `app` (the routes)."""
