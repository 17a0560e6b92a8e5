"""Who may use the API: roles, tokens, and the first token.

`roles` and `tokens` are pure; `token_file` reads and writes files with a token; `store` keeps tokens and
identifies their owners, `sessions` are logins to the dashboard, `usage` remembers when each was last used,
`failed_logins` counts, `first_token` makes the first one. `trusted_proxy` takes a proxy's word instead of a
token.
"""
