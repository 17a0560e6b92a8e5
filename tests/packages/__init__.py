"""The packages and the single file in clean root folders, and the wheel: `make test-packages`.

The machines are `machine`, what runs on them `services`.
"""
