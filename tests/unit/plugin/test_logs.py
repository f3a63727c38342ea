"""Tests which Pod ``logs`` reads."""

import pytest

from initpipeline.api.reasons import Reason
from initpipeline.core.facts import Facts, Refusal
from initpipeline.plugin.report.log_parts import pod_of_run
from tests.builders import PodBuilder, fresh_pod, running_pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

NOT_ADMITTED = (
    fresh_pod()
    .in_place()
    .phase("Failed", "PodFeatureUnsupported", "RestartAllContainersOnContainerExits")
)


QUOTA = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota")
RECORDED = new_pipeline().reconcile(None, refusal=QUOTA)
"""Status records a run that has no Pod yet."""


@pytest.mark.parametrize(
    ("state", "pod", "belongs"),
    [
        pytest.param(started(running_pod()), running_pod(), True, id="Pod of the run"),
        pytest.param(RECORDED, fresh_pod(), True, id="Pod that is not observed yet"),
        pytest.param(started(running_pod()), None, False, id="no Pod"),
        pytest.param(new_pipeline(), fresh_pod(), False, id="no run"),
        pytest.param(
            started(running_pod()), running_pod().of_run(1, "other"), False, id="another Pod"
        ),
        pytest.param(RECORDED, fresh_pod(2), False, id="Pod of another run"),
        pytest.param(
            RECORDED,
            fresh_pod().owned_by("other"),
            False,
            id="Pod of another owner",
        ),
        pytest.param(
            new_pipeline(rerunStrategy="InPlace").reconcile(None, refusal=QUOTA),
            NOT_ADMITTED,
            False,
            id="Pod to be replaced",
        ),
    ],
)
def test_pod_of_run_is_the_pod_that_core_owns(
    state: SimulatedPipeline, pod: PodBuilder | None, belongs: bool
) -> None:
    built = pod.build() if pod else None
    assert pod_of_run(Facts(state.pipeline.build(), built)) is (built if belongs else None)
