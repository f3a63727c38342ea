"""The exceptions of the demo. Each message is a line for the user."""


class DemoError(Exception):
    """A claim of the demo is wrong, or a step of it failed."""


class UsageError(DemoError):
    """The demo was started in a way that cannot work."""
