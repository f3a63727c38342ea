"""A fixed set of hostile objects: those that once violated a property, and a few of each kind."""

from random import Random

import pytest

from tests.fuzz.properties import CHECKS
from tests.fuzz.seeds import SEEDS


@pytest.mark.parametrize(("kind", "seed"), SEEDS)
def test_regression_object_holds_the_properties(kind: str, seed: int) -> None:
    CHECKS[kind](Random(seed))


@pytest.mark.parametrize("kind", CHECKS)
def test_generated_objects_hold_the_properties(kind: str) -> None:
    for seed in range(150):
        CHECKS[kind](Random(seed))
