"""The table of triggers."""

import pytest

from initpipeline.api.reasons import Trigger
from initpipeline.api.triggers import TRIGGERS, by_kubelet, by_user


def test_each_trigger_has_one_row_in_order() -> None:
    assert list(TRIGGERS) == list(Trigger)


@pytest.mark.parametrize(
    ("trigger", "user", "kubelet"),
    [
        pytest.param(Trigger.CREATED, True, False, id="created"),
        pytest.param(Trigger.SPEC_CHANGED, True, False, id="template changed"),
        pytest.param(Trigger.REQUESTED, True, False, id="requested"),
        pytest.param(Trigger.RESUMED, True, False, id="resumed"),
        pytest.param(Trigger.CONTAINER_RESTARTED, False, False, id="container restarted"),
        pytest.param(Trigger.POD_LOST, False, False, id="Pod lost"),
        pytest.param(Trigger.RETRY, False, False, id="retry"),
        pytest.param(Trigger.POD_RESTARTED, False, True, id="Pod restarted"),
        pytest.param(Trigger.RESTARTED_IN_PLACE, False, True, id="restarted in place"),
    ],
)
def test_trigger_has_one_starter(trigger: Trigger, user: bool, kubelet: bool) -> None:
    assert (by_user(trigger), by_kubelet(trigger)) == (user, kubelet)
