"""The one error that ends a command with a clear line instead of a traceback."""


class OperatorError(Exception):
    """Something a person has to put right.

    Attributes:
        problem: what is wrong, in one line.
        remedy: what to do about it, in one line.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} -- {remedy}")
        self.problem = problem
        self.remedy = remedy
