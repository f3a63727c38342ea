"""The exception of this package."""


class ClusterError(Exception):
    """The cluster cannot do what was requested. The message is a line for the user."""
