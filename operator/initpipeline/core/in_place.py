"""In-place re-runs: the kubelet restarts all containers in the same Pod (KEP-5532).

The operator adds restart rules to the app containers of the Pod. Not every cluster supports them:
the API server may refuse or drop the rules, and a node may lack the feature. If so, or if in-place
re-runs come too often, the operator creates the Pod without its rules. If an app container of such
a Pod restarts, the operator replaces the Pod. The condition InPlaceUnavailable reports this. Each
run tries the rules at most once.

The kubelet starts an in-place re-run without back-off. It runs no preStop hooks, and sends SIGKILL
two seconds after SIGTERM. Therefore, if an in-place re-run closely follows another, the operator
replaces the Pod instead, with back-off.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from initpipeline.api.models import InitPipelineStatus, Run, format_time
from initpipeline.api.names import IN_PLACE
from initpipeline.api.reasons import ConditionType, Reason, RerunPolicy, RerunStrategy, Trigger
from initpipeline.core import lenient
from initpipeline.core.containers import RESTART_ALL_CONTAINERS
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod
from initpipeline.core.runs import RunState

MIN_IN_PLACE_INTERVAL: Final = timedelta(minutes=10)
"""If two in-place re-runs start within this time, the operator replaces the Pod."""

FEATURE: Final = "RestartAllContainersOnContainerExits"
"""The name of the feature as nodes declare it (KEP-5328). A kubelet without the feature rejects the
Pod with a message that contains this name."""
MISSING_FEATURE_MESSAGE: Final = "didn't match Pod's required features"
"""Part of the scheduler's message if no node declares a feature that the Pod needs. The message
does not name the feature."""

_RULES: Final[Mapping[str, dict[str, Any]]] = {
    "Always": {
        "action": RESTART_ALL_CONTAINERS,
        "exitCodes": {"operator": "NotIn", "values": []},
    },
    "OnFailure": {
        "action": RESTART_ALL_CONTAINERS,
        "exitCodes": {"operator": "NotIn", "values": [0]},
    },
}
"""The rule that the operator adds, by the container's restartPolicy. It applies only to exits after
which that restartPolicy would restart the container."""


def wanted(pipeline: Pipeline) -> bool:
    """Returns whether spec requests in-place re-runs, and has an app container that can restart."""
    policies = pipeline.policies
    if policies.rerun_policy is not RerunPolicy.ON_RESTART:
        return False
    if policies.rerun_strategy is not RerunStrategy.IN_PLACE:
        return False
    # Reading the template parses it, so it comes last.
    spec: dict[str, Any] = pipeline.template["spec"]
    return with_rules(spec) != spec


def with_rules(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the v1.PodSpec with the operator's rule on each app container that can restart.

    The rule comes after the container's own rules, since the kubelet takes the first that matches.
    The API requires a restartPolicy on each container that has rules.
    """
    policy = pod_spec.get("restartPolicy") or "Always"
    containers = [
        _with_rule(container, container.get("restartPolicy") or policy)
        for container in pod_spec.get("containers") or ()
    ]
    return {**pod_spec, "containers": containers}


def _with_rule(container: dict[str, Any], policy: str) -> dict[str, Any]:
    rule = _RULES.get(policy)
    if rule is None:
        return container
    rules = [*(container.get("restartPolicyRules") or ()), rule]
    return {**container, "restartPolicy": policy, "restartPolicyRules": rules}


def refused(facts: Facts) -> bool:
    """Returns whether the API server refuses the Pod because of the operator's rules."""
    refusal = facts.refusal
    if refusal is None or not facts.refused_in_place:
        return False
    return refusal.reason is Reason.INVALID_TEMPLATE and "restartPolicy" in refusal.message


def unfit(pod: Pod) -> bool:
    """Returns whether the scheduler or a kubelet rejects the Pod because nodes lack the feature
    that the operator's rules need."""
    return _unfit_by(pod) is not None


def _unfit_by(pod: Pod) -> str | None:
    """Returns the message of the scheduler or kubelet that the Pod needs a missing feature. None:
    neither reports that, or the Pod does not have the operator's rules."""
    if pod.rerun_in_place != IN_PLACE:
        return None
    scheduled = pod.condition("PodScheduled")
    if (
        scheduled is not None
        and scheduled.status == "False"
        and MISSING_FEATURE_MESSAGE in scheduled.message
    ):
        return scheduled.message
    return pod.message if pod.phase == "Failed" and FEATURE in pod.message else None


def too_often(run: Run, pod: Pod) -> bool:
    """Returns whether the operator's rules have started this run so soon after another in-place
    re-run that the Pod is replaced."""
    last = run.last_in_place_time
    by_rules = pod.rerun_in_place == IN_PLACE and run.trigger is Trigger.RESTARTED_IN_PLACE
    return by_rules and last is not None and run.start_time - last < MIN_IN_PLACE_INTERVAL


def obstacle(facts: Facts, state: RunState, pod: Pod | None, now: datetime) -> Explanation | None:
    """Returns why an app container's restart does not cause an in-place re-run, although
    rerunStrategy is InPlace.

    ``pod`` is the Pod of the current run. If ``pod`` is None, the result is why the next Pod is
    created without the operator's rules. None: restarts re-run the Pod in place, or the pipeline
    does not ask for it.
    """
    if not wanted(facts.pipeline):
        return None
    if pod is not None:
        return _of_pod(facts.pipeline.status, pod)
    known = _known(facts.pipeline.status, state.run)
    if known is not None or state.run.completion_time is not None:
        return known
    return _before_pod(facts, state, now)


def _of_pod(before: InitPipelineStatus, pod: Pod) -> Explanation | None:
    """Returns why the Pod does not restart in place. None: the Pod restarts in place, or
    it was created under another rerunStrategy."""
    if pod.rerun_in_place == IN_PLACE:
        dropped = "the API server has dropped the restartPolicyRules of the Pod"
        return None if pod.restarts_in_place else _unsupported(dropped)
    if pod.rerun_in_place is None:
        return None
    reason = Reason(pod.rerun_in_place)
    condition = before.condition(ConditionType.IN_PLACE_UNAVAILABLE)
    if condition is not None and condition.reason == reason:
        return Explanation(reason, condition.message)
    return Explanation(reason, f"the Pod {_WITHOUT}")


def _known(before: InitPipelineStatus, run: Run) -> Explanation | None:
    """Returns the obstacle that the condition reports for this run. The operator adds its rules at
    most once per run. None: there was no obstacle."""
    condition = before.condition(ConditionType.IN_PLACE_UNAVAILABLE)
    if condition is None or before.run is None or before.run.number != run.number:
        return None
    return Explanation(Reason(lenient.identifier(condition.reason)), condition.message)


def _before_pod(facts: Facts, state: RunState, now: datetime) -> Explanation | None:
    pod, run = facts.pod, state.run
    if facts.refusal is not None and refused(facts):
        return _unsupported(facts.refusal.message)
    if pod is not None and (message := _unfit_by(pod)):
        return _unsupported(message)
    last = run.last_in_place_time
    if last is not None and now - last < MIN_IN_PLACE_INTERVAL:
        return _too_often(f"all containers were last restarted in place at {format_time(last)}")
    if state.rerun_count > 1:
        return _too_often(
            f"restarts, lost Pods or failures have caused {state.rerun_count} runs in a row"
        )
    if pod is not None and (alone := _restarted_alone(run, pod)):
        return _unsupported(
            f'the kubelet of node "{pod.node_name}" restarted only container "{alone}" of the Pod'
        )
    return None


def _restarted_alone(run: Run, before: Pod) -> str | None:
    """Returns the name of the container that the kubelet restarted alone, although its first
    matching rule is RestartAllContainers. A container that admission injected does not have the
    operator's rules. None: there is no such container.

    A cause with an exit code means that a restarted container caused the run.
    """
    cause = run.cause
    if before.rerun_in_place != IN_PLACE or cause is None or cause.exit_code is None:
        return None
    restarted = (c for c in before.containers if c.name == cause.container)
    rules = ((c.name, c.after_exit(cause.exit_code)) for c in restarted)
    return next((name for name, action in rules if action == RESTART_ALL_CONTAINERS), None)


_WITHOUT = (
    "has no rules for in-place restarts, so the operator replaces it if an app container restarts"
)


def _unsupported(cause: str) -> Explanation:
    return Explanation(Reason.IN_PLACE_UNSUPPORTED, f"the Pod {_WITHOUT}: {cause}")


def _too_often(cause: str) -> Explanation:
    return Explanation(Reason.IN_PLACE_TOO_OFTEN, f"the Pod {_WITHOUT}: {cause}")
