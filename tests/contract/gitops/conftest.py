"""The engine, one per test process."""

from collections.abc import Iterator

import pytest

from tests.gitops.customizations import override
from tests.gitops.engine import Engine, running


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Argo CD's Lua engine with the scripts of manifests/argocd, and kstatus."""
    with running(override()) as engine:
        yield engine
