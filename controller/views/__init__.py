"""Questions of people and Prometheus; only the API imports them.

`queries`, `explain`, `events`, `diff`, `plan` and `metrics`.
"""
