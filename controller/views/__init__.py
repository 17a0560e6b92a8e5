"""Questions of people and Prometheus: `queries`, `explain` and `metrics`. Only the API imports them."""
