"""What the tests of the test cluster share."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Declare this folder's marker."""
    config.addinivalue_line("markers", "cluster: brings up a cluster of its own on this machine")
