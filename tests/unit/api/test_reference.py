"""The reference knows every word that automation may match on, and every policy."""

from enum import StrEnum
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from initpipeline.api.models import InitPolicy, Policies
from initpipeline.api.reasons import (
    ConditionType,
    EventReason,
    Reason,
    RerunPolicy,
    RerunStrategy,
    Result,
    Trigger,
)

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference.md").read_text()


@pytest.mark.parametrize(
    "words", [ConditionType, EventReason, Reason, RerunPolicy, RerunStrategy, Result, Trigger]
)
def test_has_each_word(words: type[StrEnum]) -> None:
    missing = [word for word in words if f"`{word}`" not in REFERENCE]
    assert not missing, f"docs/reference.md does not explain {missing}"


def test_has_each_policy() -> None:
    named = [f"`{to_camel(field)}`" for field in Policies.model_fields if field != "init_policies"]
    limits = [f"`initPolicies[].{to_camel(f)}`" for f in InitPolicy.model_fields if f != "name"]
    missing = [name for name in (*named, *limits) if name not in REFERENCE]
    assert not missing, f"docs/reference.md does not explain {missing}"
