"""What has become of a Pod: completion, failure of its own, or a loss that the cluster caused."""

from typing import Any

import pytest

from initpipeline.core.pod_end import Fate, fate, unexplained
from tests.builders import PodBuilder, completed_pod, fresh_pod, running_pod

EXIT_0 = running_pod().app(exit=0)
"""Its app container took SIGTERM and exited with 0."""
ENDED = running_pod().app(exit=137)
"""The kubelet killed its app container."""
OWN_LIMIT = 'Usage of EmptyDir volume "work" exceeds the limit "1Mi".'


def rule(action: str, *codes: int) -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": "In", "values": list(codes)}}


def with_app(observed: PodBuilder, *others: dict[str, Any], **fields: Any) -> PodBuilder:
    """Returns the Pod with these fields in the spec of its app container, and other containers."""
    return observed.with_spec(containers=[{"name": "app", **fields}, *others])


def disrupted(observed: PodBuilder, reason: str = "TerminationByKubelet") -> PodBuilder:
    return observed.condition("DisruptionTarget", reason=reason)


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(fresh_pod(), id="pending"),
        pytest.param(running_pod(), id="running"),
        pytest.param(running_pod().phase("Unknown"), id="node unreachable"),
        pytest.param(disrupted(running_pod()), id="about to be disrupted"),
        pytest.param(ENDED.phase("Failed").deleting(), id="Failed while being deleted"),
        pytest.param(EXIT_0.phase("Succeeded").deleting(), id="Succeeded while being deleted"),
    ],
)
def test_pod_that_has_not_ended_is_alive(observed: PodBuilder) -> None:
    assert fate(observed.build()) is Fate.ALIVE


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(completed_pod(), id="restartPolicy OnFailure"),
        pytest.param(completed_pod().restarts("Never"), id="restartPolicy Never"),
        pytest.param(
            with_app(EXIT_0.phase("Succeeded"), restartPolicy="Never"),
            id="restartPolicy Always, and Never for each app container",
        ),
        pytest.param(
            with_app(
                EXIT_0.phase("Succeeded"),
                restartPolicy="OnFailure",
                restartPolicyRules=[rule("Restart", 3)],
            ),
            id="a restart rule for another exit code",
        ),
        pytest.param(
            disrupted(completed_pod()), id="disrupted, and exited with 0: a Job counts it too"
        ),
        pytest.param(
            completed_pod().sidecar("proxy", running=True),
            id="the sidecar is still reported",
        ),
    ],
)
def test_succeeded_pod_that_may_complete_has_succeeded(observed: PodBuilder) -> None:
    assert fate(observed.build()) is Fate.SUCCEEDED


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(disrupted(EXIT_0.phase("Succeeded")), id="disrupted"),
        pytest.param(EXIT_0.phase("Succeeded"), id="without a condition"),
        pytest.param(EXIT_0.phase("Succeeded", reason="Evicted"), id="evicted"),
        pytest.param(
            with_app(EXIT_0.phase("Succeeded").restarts("Never"), restartPolicy="Always"),
            id="the app container's own policy is Always",
        ),
        pytest.param(
            with_app(
                EXIT_0.phase("Succeeded").restarts("Never"),
                {"name": "log", "restartPolicy": "Always"},
            ),
            id="one of two app containers is Always",
        ),
        pytest.param(
            with_app(
                EXIT_0.phase("Succeeded").restarts("Never"),
                restartPolicy="Never",
                restartPolicyRules=[rule("Restart", 0)],
            ),
            id="a rule restarts it after exit code 0",
        ),
        pytest.param(completed_pod().init("two", running=True), id="a step is reported as running"),
        pytest.param(completed_pod().init("two"), id="a step is reported as waiting"),
        pytest.param(completed_pod().app(), id="the app container never started"),
    ],
)
def test_succeeded_pod_that_was_not_done_is_lost(observed: PodBuilder) -> None:
    assert fate(observed.build()) is Fate.LOST


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(
            fresh_pod().init("one", exit=1).restarts("Never").phase("Failed"), id="a step failed"
        ),
        pytest.param(ENDED.app(exit=3).restarts("Never").phase("Failed"), id="the app failed"),
        pytest.param(
            fresh_pod()
            .init("one", exit=1)
            .with_spec(initContainers=[{"name": "one", "restartPolicy": "Never"}])
            .phase("Failed"),
            id="a step with a restartPolicy of Never of its own failed",
        ),
        pytest.param(
            running_pod().app(exit=128, reason="StartError").restarts("Never").phase("Failed"),
            id="the app could not be started",
        ),
        pytest.param(ENDED.phase("Failed", "Evicted", OWN_LIMIT), id="its own storage limit"),
        pytest.param(
            ENDED.phase("Failed", "Evicted", OWN_LIMIT).condition("DisruptionTarget", "False"),
            id="its own storage limit, DisruptionTarget False",
        ),
        pytest.param(ENDED.phase("Failed", "DeadlineExceeded"), id="activeDeadlineSeconds"),
        pytest.param(
            fresh_pod().phase("Failed", "DeadlineExceeded"),
            id="activeDeadlineSeconds, before any container started",
        ),
        pytest.param(
            disrupted(ENDED.phase("Failed", "DeadlineExceeded")),
            id="activeDeadlineSeconds, on a node that was about to go",
        ),
    ],
)
def test_pod_that_failed_by_itself_has_failed(observed: PodBuilder) -> None:
    assert fate(observed.build()) is Fate.FAILED


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(
            disrupted(ENDED.phase("Failed"), "PreemptionByScheduler"), id="preempted by another Pod"
        ),
        pytest.param(disrupted(ENDED.phase("Failed", "Evicted")), id="node pressure"),
        pytest.param(disrupted(ENDED.phase("Failed", "Terminated")), id="shutdown of the node"),
        pytest.param(
            disrupted(ENDED.restarts("Never").phase("Failed")), id="disrupted under Never"
        ),
        pytest.param(
            fresh_pod().phase("Failed", reason="UnexpectedAdmissionError"),
            id="rejected by the kubelet before any container started",
        ),
        pytest.param(
            running_pod().phase("Failed", reason="NodeAffinity"),
            id="rejected after a restart of the kubelet, its containers last reported as running",
        ),
        pytest.param(
            fresh_pod()
            .init("one", waiting="CrashLoopBackOff", restarts=3)
            .phase("Failed", reason="OutOfcpu"),
            id="rejected while a step waited in back-off",
        ),
        pytest.param(
            running_pod()
            .app(exit=137, reason="ContainerStatusUnknown")
            .restarts("Never")
            .phase("Failed"),
            id="its containers went with the node",
        ),
        pytest.param(ENDED.phase("Failed"), id="killed, although the kubelet would restart it"),
        pytest.param(
            with_app(ENDED, restartPolicy="Never", restartPolicyRules=[rule("Restart", 137)]).phase(
                "Failed"
            ),
            id="killed, although a rule restarts it after this exit code",
        ),
    ],
)
def test_failed_pod_that_the_cluster_ended_is_lost(observed: PodBuilder) -> None:
    assert fate(observed.build()) is Fate.LOST


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(EXIT_0.phase("Succeeded"), True, id="terminated, its containers exited 0"),
        pytest.param(disrupted(EXIT_0.phase("Succeeded")), False, id="disrupted"),
        pytest.param(EXIT_0.phase("Succeeded").deleting(), False, id="deleted"),
        pytest.param(completed_pod(), False, id="completed"),
        pytest.param(running_pod(), False, id="running"),
    ],
)
def test_succeeded_pod_without_disruption_or_completion_is_unexplained(
    observed: PodBuilder, expected: bool
) -> None:
    assert unexplained(observed.build()) is expected
