"""Showing answers: `table`, `formats`, `phrases`, `audit_rows`, `timeline`, `watch`."""
