"""The pages, one module each: every function declares a role and answers with a rendered template.

`static` serves files, `login` begins and ends sessions, `sessions` lists them, `overview` is the first page,
`matrix` the second, `node`, `network`, `run` (a timeline), `audit`, `explain`, `safety` and `notifications`
are about what their names say, `act` does what a person asks for, `stream` tells open pages what changed.
"""
