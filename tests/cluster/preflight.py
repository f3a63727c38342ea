"""Look before anything is started: one clear line for each thing that is missing."""

from tests.cluster.plan import Mode


def check(mode: Mode) -> None:
    """Raise if this machine can't run such a cluster."""
