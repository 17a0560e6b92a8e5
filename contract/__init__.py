"""What crosses the wire between controller and worker; it imports nothing of either.

`verdicts` has the words, `messages` what is sent, `queues` where to, `signing` whom it is believed; `runtime`
is what both programs share when they run.
"""

VERSION: str
"""The version of the installed package."""


def __getattr__(name: str) -> str:
    """Read the version when it is asked for: that takes 50 ms, and `vxctl --help` does not show it."""
    if name != "VERSION":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    globals()[name] = version("vxlan-operator")
    return str(globals()[name])
