"""The one exception of this package."""


class ClusterError(Exception):
    """Something a person has to know or change; its text is one line that says what and where."""
