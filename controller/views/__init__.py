"""What people and Prometheus ask: `queries`, `explain` and `metrics`. Only the API imports them."""
