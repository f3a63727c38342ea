"""The one exception of this package."""


class BenchError(Exception):
    """The benchmark has no result: one line that says what did not happen."""
