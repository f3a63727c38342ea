"""A pytest plugin: the tests of the mutated module run first, then the others, shortest first. Most
mutants then fail within a second, and a few tests take seconds."""

import json
import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    statistics = Path(
        "mutmut-stats.json"
    )  # Beside the mutants, when mutmut has run all tests once.
    if not statistics.exists():
        return
    seconds = json.loads(statistics.read_text())["duration_by_test"]
    module = os.environ.get("MUTANT_UNDER_TEST", "").rpartition(".")[0].rpartition(".")[2]
    own = f"/test_{module}.py"
    items.sort(key=lambda item: (own not in item.nodeid, seconds.get(item.nodeid, 0)))
