"""Local diagnosis, for `vxctl doctor` and `vxlan-worker doctor`.

`checks` runs checks side by side with a time-out and prints their results; `docker`, `broker` and `machine`
have the checks of both programs.
"""
