"""The fields that ``evolve`` accepts are those of the models."""

from typing import Any, get_type_hints

import pytest

from initpipeline.api import models
from initpipeline.core import evolve
from tests.builders import at

CHANGES: list[tuple[Any, type[models.ApiModel]]] = [
    (evolve.RunChanges, models.Run),
    (evolve.RunRecordChanges, models.RunRecord),
    (evolve.StatusChanges, models.InitPipelineStatus),
    (evolve.ConditionChanges, models.Condition),
    (evolve.ExceededChanges, models.Exceeded),
    (evolve.PoliciesChanges, models.Policies),
    (evolve.CauseChanges, models.Cause),
    (evolve.FailedStepChanges, models.FailedStep),
]


@pytest.mark.parametrize(("changes", "model"), CHANGES)
def test_changes_have_names_and_types_of_the_model(
    changes: Any, model: type[models.ApiModel]
) -> None:
    fields = get_type_hints(model)
    assert get_type_hints(changes).items() <= fields.items()


def test_copy_differs_in_the_named_field_only() -> None:
    before = models.Condition(
        type="Ready",
        status="True",
        observed_generation=1,
        last_transition_time=at(0),
        reason="PodReady",
        message="the Pod is Ready",
    )
    after = evolve.evolve(before, observed_generation=2)
    assert after.model_dump() == before.model_dump() | {"observed_generation": 2}
    assert before.observed_generation == 1
