"""What ends the demo, each with one line for a person."""


class DemoError(Exception):
    """Something differs from what the demo says, or cannot be done."""


class UsageError(DemoError):
    """It was started in a way that cannot work."""
