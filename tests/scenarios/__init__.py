"""Scenarios as text: a Swarm, a kernel and a worker, with the tables that are expected of them.

README.md has the commands. `script` reads a file, `usage` and `table` its lines; `manager` is the fake Swarm,
`controller` and `node` drive the real code; `commands` and `expectations` are the language, `runner` runs it.
"""
