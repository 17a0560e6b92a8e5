"""The one error that the lab raises."""


class LabError(Exception):
    """The lab could not do what was asked; the message says what is wrong and what to do."""
