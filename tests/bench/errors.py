"""The exception of this package."""


class BenchError(Exception):
    """The benchmark failed. The message is a line for the user."""
