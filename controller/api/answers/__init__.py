"""The models of the API's answers; their field names are a promise to programs that use the API.

`nodes`, `cluster`, `networks`, `devices`, `runs`, `safety`, `events`, `audit`, `chain`, `explain`,
`diff`, `plan`, `tokens`, `keys`, `notifications` and `version`, by subject, on one `base`; `on_node`
marks names that nodes share.
"""
