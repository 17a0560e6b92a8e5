"""Text from elsewhere, for a person to read."""


def printable(text: str) -> str:
    r"""Show what is not printable as its code (`\x1b`, `\n`, `\u202e`).

    Names of nodes, networks and devices, and errors of tasks, are what somebody made them: they must not
    drive a terminal, begin a line, or turn the direction of the text beside them.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )
