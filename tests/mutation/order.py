"""A pytest plugin: the tests of the mutated module run first, then the others, shortest first. Most
mutants then fail within a second, and a few tests take seconds.

It also empties the caches of the operator's modules. mutmut runs all tests once and then forks for
each mutant, so the tests of a mutant would find the results of the original function.
"""

import json
import os
import sys
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _empty_caches()
    statistics = Path(
        "mutmut-stats.json"
    )  # Beside the mutants, when mutmut has run all tests once.
    if not statistics.exists():
        return
    seconds = json.loads(statistics.read_text())["duration_by_test"]
    module = os.environ.get("MUTANT_UNDER_TEST", "").rpartition(".")[0].rpartition(".")[2]
    own = f"/test_{module}.py"
    items.sort(key=lambda item: (own not in item.nodeid, seconds.get(item.nodeid, 0)))


def _empty_caches() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("initpipeline."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
