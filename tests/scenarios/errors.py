"""The error of a scenario: what is wrong in which line."""


class ScenarioError(Exception):
    """A line of a scenario cannot be understood, or what it expects is not so."""
