"""Restarts that the kubelet answers itself: all containers of the Pod restart in place (KEP-5532).

Rules on the app containers ask for it. Not every cluster has it: the API server may refuse the
rules or drop them, and nodes may not offer it. Then, or where it would come too often, the Pod goes
without our rules, the restart of a container is answered with a new Pod, and a condition says so.
Each run tries anew, once.

A restart in place knows no back-off, no preStop, and two seconds between SIGTERM and SIGKILL. So
one that follows another closely is answered with a new Pod and its back-off.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from initpipeline.api.models import InitPipelineStatus, Run, format_time
from initpipeline.api.names import IN_PLACE
from initpipeline.api.reasons import ConditionType, Reason, RerunPolicy, RerunStrategy, Trigger
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import RESTART_ALL_CONTAINERS, Facts, Pipeline, Pod
from initpipeline.core.runs import RunState

MIN_IN_PLACE_INTERVAL: Final = timedelta(minutes=10)
"""Restarts in place that are closer together come too often."""

FEATURE: Final = "RestartAllContainersOnContainerExits"
"""What nodes declare that offer it, and the kubelet names when it does not (KEP-5328)."""
MISSING_FEATURE_MESSAGE: Final = "didn't match Pod's required features"
"""The scheduler's words about nodes that do not declare what a Pod needs; it names no feature."""

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
"""By the restartPolicy of the container: no rule makes one restart that would not otherwise."""


def wanted(pipeline: Pipeline) -> bool:
    """Whether a container's restart is to re-run the Pod in place, and there is one that can."""
    policies = pipeline.policies
    if policies.rerun_policy is not RerunPolicy.ON_RESTART:
        return False
    if policies.rerun_strategy is not RerunStrategy.IN_PLACE:
        return False
    # A template is parsed each time that it is read, so only where it is asked for.
    spec: dict[str, Any] = pipeline.template["spec"]
    return with_rules(spec) != spec


def with_rules(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The v1.PodSpec with our rule on each app container that can restart, after its own rules: the
    first that matches decides. Rules need the container's own restartPolicy beside them."""
    containers = []
    for container in pod_spec.get("containers") or ():
        policy = container.get("restartPolicy") or pod_spec.get("restartPolicy") or "Always"
        rule = _RULES.get(policy)
        rules = [*(container.get("restartPolicyRules") or ()), rule]
        ours = {"restartPolicy": policy, "restartPolicyRules": rules}
        containers.append({**container, **ours} if rule else container)
    return {**pod_spec, "containers": containers}


def refused(facts: Facts) -> bool:
    """Whether the API server does not take the Pod for what our rules put into it. Of a refusal for
    anything else they are not the cause."""
    refusal = facts.refusal
    if refusal is None or not facts.refused_in_place:
        return False
    return refusal.reason is Reason.INVALID_TEMPLATE and "restartPolicy" in refusal.message


def unfit(pod: Pod) -> bool:
    """Whether our rules keep the Pod from running on the nodes that there are: with none of them it
    might run."""
    return _unfit_by(pod) is not None


def _unfit_by(pod: Pod) -> str | None:
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
    """Whether our rules have begun this run so soon after one like it that the Pod is replaced."""
    last = run.last_in_place_time
    ours = pod.rerun_in_place == IN_PLACE and run.trigger is Trigger.RESTARTED_IN_PLACE
    return ours and last is not None and run.start_time - last < MIN_IN_PLACE_INTERVAL


def obstacle(facts: Facts, state: RunState, pod: Pod | None, now: datetime) -> Explanation | None:
    """Returns why restarts do not re-run the Pod in place although the pipeline asks for it.

    ``pod`` is the Pod of the current run. If it is None, the result is why the next Pod is created
    without the operator's rules. None: the Pod restarts in place, or the pipeline does not ask.
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
    """One that was made under the other strategy says nothing about it."""
    if pod.rerun_in_place == IN_PLACE:
        words = "the API server has dropped the restartPolicyRules of the Pod"
        return None if pod.restarts_in_place else _unsupported(words)
    if pod.rerun_in_place not in set(Reason):
        return None
    reason = Reason(pod.rerun_in_place)
    said = before.condition(ConditionType.IN_PLACE_UNAVAILABLE)
    if said is not None and said.reason == reason:
        return Explanation(reason, said.message)
    return Explanation(reason, f"the Pod {_WITHOUT}")


def _known(before: InitPipelineStatus, run: Run) -> Explanation | None:
    """What was found out in this run is not tried again."""
    said = before.condition(ConditionType.IN_PLACE_UNAVAILABLE)
    if said is None or before.run is None or before.run.number != run.number:
        return None
    return Explanation(Reason(said.reason), said.message) if said.reason in set(Reason) else None


def _before_pod(facts: Facts, state: RunState, now: datetime) -> Explanation | None:
    pod, run = facts.pod, state.run
    if facts.refusal is not None and refused(facts):
        return _unsupported(facts.refusal.message)
    if pod is not None and (words := _unfit_by(pod)):
        return _unsupported(words)
    last = run.last_in_place_time
    if last is not None and now - last < MIN_IN_PLACE_INTERVAL:
        return _too_often(f"all containers were last restarted in place at {format_time(last)}")
    if state.rerun_count > 1:
        return _too_often(f"restarts or losses have caused {state.rerun_count} runs in a row")
    if pod is not None and _restarted_alone(run, pod):
        return _unsupported(f"node {pod.node_name} has restarted a container of it alone")
    return None


def _restarted_alone(run: Run, before: Pod) -> bool:
    """Returns whether the node has restarted one container although the first rule that matches its
    exit restarts all. A container that admission injected into the Pod has none of our rules."""
    if run.trigger is not Trigger.CONTAINER_RESTARTED or before.rerun_in_place != IN_PLACE:
        return False
    cause = run.cause
    found = (c for c in before.containers if cause is not None and c.name == cause.container)
    container = next(found, None)
    if container is None or cause is None or cause.exit_code is None:
        return False
    return container.after_exit(cause.exit_code) == RESTART_ALL_CONTAINERS


_WITHOUT = "is made without rules to restart in place, so a restart is answered with a new one"


def _unsupported(words: str) -> Explanation:
    return Explanation(Reason.IN_PLACE_UNSUPPORTED, f"the Pod {_WITHOUT}: {words}")


def _too_often(words: str) -> Explanation:
    return Explanation(Reason.IN_PLACE_TOO_OFTEN, f"the Pod {_WITHOUT}: {words}")
