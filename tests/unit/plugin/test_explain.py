"""Tests the report of ``explain``: what happens next, limits, remedies and overdue actions."""

import re
from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.models import Condition
from initpipeline.api.reasons import Reason
from initpipeline.core import status_size
from initpipeline.core.admission import failed_request
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts, Refusal
from initpipeline.core.unreadable import error_conditions
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.explain import Report, report
from initpipeline.plugin.report.pod_events import PodWarning
from initpipeline.plugin.report.summary import short_forecast
from initpipeline.plugin.views import explain as view
from initpipeline.plugin.views import status as status_view
from tests.builders import (
    NAME,
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    running_pod,
    silent_pod,
)
from tests.unit.core.simulation import SimulatedPipeline, after_requests, new_pipeline, started
from tests.unit.plugin.rendered import text


def explained(
    state: SimulatedPipeline, pod: PodBuilder | None, now: float = 60, flags: str = ""
) -> Report:
    """Returns the report from what the plugin can read. It has no response to a creation."""
    facts = Facts(state.pipeline.build(), pod.build() if pod else None)
    return report(facts, at(now), flags)


def steps_back_off(message: str = "back-off 40s restarting failed container=one") -> PodBuilder:
    last = End(3, 20, 50, message="no such table")
    return fresh_pod().init(
        "one", waiting="CrashLoopBackOff", message=message, restarts=3, last=last
    )


SILENT = running_pod().condition("ContainersReady").ready(False)
FAILED = fresh_pod().init("one", exit=1).phase("Failed").restarts("Never")
GATED = fresh_pod().node(None).condition("PodScheduled", "False", "SchedulingGated", "gated")
QUOTA = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota")
FORBIDDEN = Refusal(Reason.POD_FORBIDDEN, "violates PodSecurity")
INVALID = Refusal(Reason.INVALID_TEMPLATE, "spec.x: Invalid value")
UNSPECIFIED = Refusal(Reason.QUOTA_REQUIRES_RESOURCES, "failed quota: q: must specify cpu for: one")
OUT_OF_RANGE = Refusal(Reason.POD_FORBIDDEN, "maximum cpu usage per Container is 1, but limit is 2")
FOREIGN = running_pod().owned_by("somebody-else")
RETRIED = (
    "the operator retries the creation of the Pod, with a back-off of up to 5 min and immediately "
    "when this InitPipeline changes"
)


IN_PLACE = new_pipeline(rerunStrategy="InPlace").reconcile(None)
WITHOUT_RULES = running_pod().in_place("InPlaceUnsupported")
UNSUPPORTED = IN_PLACE.reconcile(WITHOUT_RULES)
TOO_OFTEN = running_pod().in_place("InPlaceTooOften")
LIMITED_BY_RATE = after_requests(5, 55).token("6").reconcile(running_pod(6), 55)


def refused(refusal: Refusal) -> SimulatedPipeline:
    return new_pipeline().reconcile(None).reconcile(None, refusal=refusal)


def unanswered(seconds: float | None = None) -> SimulatedPipeline:
    failed = failed_request(504, "504: Timeout: request did not complete within requested timeout")
    first = new_pipeline().reconcile(None).reconcile(None, failed=failed)
    return first if seconds is None else first.reconcile(None, seconds, failed=failed)


@pytest.mark.parametrize(
    ("state", "pod", "first"),
    [
        pytest.param(
            started(steps_back_off()),
            steps_back_off(),
            'the kubelet starts "one" again at about 12:01:30Z, in 30s (back-off 40s)',
            id="back-off of the kubelet",
        ),
        pytest.param(
            started(steps_back_off("")),
            steps_back_off(""),
            'the kubelet starts "one" again at about 12:01:30Z, in 30s (back-off 40s, the default)',
            id="back-off that the kubelet has not reported yet",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1)),
            fresh_pod().init("one", exit=1),
            'the kubelet starts "one" again immediately',
            id="failed for the first time",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1, restarts=2)),
            fresh_pod().init("one", exit=1, restarts=2),
            'the kubelet starts "one" again any moment now (back-off 20s, the default)',
            id="back-off that is over",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1).restarts("Never")),
            fresh_pod().init("one", exit=1).restarts("Never"),
            'the kubelet does not restart "one": the Pod and run 1 fail',
            id="failed, with restartPolicy Never",
        ),
        pytest.param(
            refused(QUOTA),
            None,
            RETRIED,
            id="refused",
        ),
        pytest.param(refused(INVALID), None, RETRIED, id="refused as invalid"),
        pytest.param(refused(UNSPECIFIED), None, RETRIED, id="refused without requests"),
        pytest.param(
            new_pipeline(initPolicies=[{"name": "typo"}]).reconcile(None),
            None,
            "the operator creates the Pod when you fix the spec",
            id="refused by the operator",
        ),
        pytest.param(
            new_pipeline().reconcile(None).reconcile(FOREIGN),
            FOREIGN,
            "the operator creates the Pod within seconds after the name is free",
            id="name taken",
        ),
        pytest.param(
            started(fresh_pod().init("one", waiting="ImagePullBackOff")),
            fresh_pod().init("one", waiting="ImagePullBackOff"),
            "the kubelet retries the image pull, with a back-off of up to 5 min",
            id="no image",
        ),
        pytest.param(
            started(fresh_pod().init("one", waiting="InvalidImageName")),
            fresh_pod().init("one", waiting="InvalidImageName"),
            "the kubelet cannot pull an image with this name: correct it in the template",
            id="invalid image name",
        ),
        pytest.param(
            started(fresh_pod().init("one", waiting="ErrImageNeverPull")),
            fresh_pod().init("one", waiting="ErrImageNeverPull"),
            "the kubelet continues when the node has the image, because imagePullPolicy is Never",
            id="imagePullPolicy Never",
        ),
        pytest.param(
            started(GATED),
            GATED,
            "the scheduler ignores the Pod until its scheduling gates are removed",
            id="gated",
        ),
        pytest.param(
            started(SILENT),
            SILENT,
            "if the node reports again, the kubelet updates the Pod; if not, the control "
            "plane deletes the Pod, by default after 5 min",
            id="its node has stopped reporting",
        ),
        pytest.param(
            started(running_pod()).reconcile(None, 20).reconcile(fresh_pod(2)).reconcile(None, 55),
            None,
            "run 3 starts at 12:01:05Z, in 5s; a run that you request does not wait",
            id="back-off of the operator",
        ),
        pytest.param(
            LIMITED_BY_RATE,
            running_pod(6),
            "run 7 starts at 12:01:05Z, in 5s",
            id="many runs by users",
        ),
        pytest.param(
            started(running_pod()).edited().reconcile(running_pod(), 20),
            running_pod().deleting(20),
            "the operator creates the Pod of run 2 when the old Pod is gone",
            id="old Pod terminates",
        ),
        pytest.param(
            started(FAILED),
            FAILED,
            "no run starts until a user takes action",
            id="given up",
        ),
        pytest.param(
            new_pipeline(suspend=True).reconcile(None),
            None,
            "no run starts until you resume it",
            id="suspended",
        ),
        pytest.param(
            started(running_pod()),
            running_pod(),
            "all steps run again when an app container restarts (with a new Pod), the Pod is lost, "
            "the kubelet restarts the Pod, the template changes, or a user requests a run",
            id="ready",
        ),
        pytest.param(
            started(running_pod(), rerunPolicy="OnPodLoss"),
            running_pod(),
            "all steps run again when the Pod is lost, the kubelet restarts the Pod, the template "
            "changes, or a user requests a run",
            id="ready, with OnPodLoss",
        ),
        pytest.param(
            started(FAILED, ttlSecondsAfterFinished=60).reconcile(FAILED, 1),
            FAILED,
            "the operator will delete this InitPipeline, because ttlSecondsAfterFinished (60 s) "
            "has passed",
            id="ttl has passed",
        ),
    ],
)
def test_forecast_state_has_next_action_first(
    state: SimulatedPipeline, pod: PodBuilder | None, first: str
) -> None:
    assert explained(state, pod).next[0] == first


def test_forecast_ttl_in_future_has_time_of_deletion() -> None:
    report = explained(started(FAILED, ttlSecondsAfterFinished=90), FAILED)
    assert (
        "the operator deletes this InitPipeline at 12:01:30Z, in 30s (ttlSecondsAfterFinished)"
        in report.next
    )


RUNNING = fresh_pod().init("one", running=True)
SIDECAR = fresh_pod().sidecar("one", running=True, started=False, startup_probe=True)
EXITED = fresh_pod().init("one", exit=1)
RUNS_ON = '"one" runs until it exits: neither its timeoutSeconds nor initDeadlineSeconds is set'
REPEATS = 'this repeats without limit: neither maxRestarts of "one" nor initDeadlineSeconds is set'


@pytest.mark.parametrize(
    ("pod", "policies", "expected"),
    [
        pytest.param(RUNNING, {}, [RUNS_ON], id="running"),
        pytest.param(RUNNING, {"initDeadlineSeconds": 90}, [], id="running, deadline"),
        pytest.param(
            RUNNING, {"initPolicies": [{"name": "one", "timeoutSeconds": 90}]}, [], id="timeout"
        ),
        pytest.param(
            RUNNING,
            {"initPolicies": [{"name": "one", "maxRestarts": 1}]},
            [RUNS_ON],
            id="running, only restarts are limited",
        ),
        pytest.param(EXITED, {"backoffLimit": 3}, [REPEATS], id="failed"),
        pytest.param(EXITED, {"initDeadlineSeconds": 90}, [], id="failed, deadline"),
        pytest.param(
            EXITED, {"initPolicies": [{"name": "one", "maxRestarts": 5}]}, [], id="restarts"
        ),
        pytest.param(fresh_pod().init("one", exit=1).restarts("Never"), {}, [], id="not restarted"),
        pytest.param(SIDECAR, {}, [], id="sidecar"),
    ],
)
def test_forecast_step_without_limit_names_the_missing_limits(
    pod: PodBuilder, policies: dict[str, Any], expected: list[str]
) -> None:
    found = [line for line in explained(started(pod, **policies), pod).next if "neither" in line]
    assert found == expected


AUTOMATIC = re.compile(
    r"^the operator (will|retries|creates|starts)|starts at|^then the operator|^in order|"
    r"the name is free now|nothing: all containers"
)
USER_ACTION = re.compile(r"(no run starts|^nothing) until|when you fix|correct it in the template")


def stuck(pod: PodBuilder) -> PodBuilder:
    """Returns the Pod as it was more than five minutes after its deletion, at 500 seconds."""
    return pod.deleting(20)


def failing(state: SimulatedPipeline) -> SimulatedPipeline:
    """Returns the pipeline after the operator reported that it fails on it."""
    conditions = error_conditions(state.pipeline.build(), KeyError("x"), at(60))
    raw = {**state.pipeline.status, "conditions": conditions}
    return replace(state, pipeline=replace(state.pipeline, status=raw))


ONE = fresh_pod().init("one", running=True)
LIMITED: dict[str, Any] = {
    "initDeadlineSeconds": 30,
    "initPolicies": [{"name": "one", "timeoutSeconds": 20, "maxRestarts": 0}],
}
OLD_POD = started(running_pod()).edited().reconcile(running_pod(), 20)
KEPT = "403: no"
SUSPENDED = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 20)
FINISHED = started(completed_pod(), ttlSecondsAfterFinished=10)
TWICE_LOST = started(running_pod()).reconcile(None, 20).reconcile(fresh_pod(2)).reconcile(None, 55)
NAME_TAKEN = new_pipeline().reconcile(None).reconcile(FOREIGN)
ENDED = running_pod().app(exit=0).phase("Succeeded")
HELD = stuck(running_pod()).held_by("example.com/x")

CASES: dict[str, tuple[Reason, SimulatedPipeline, PodBuilder | None, float]] = {
    "Pod to be created": (Reason.POD_PENDING, new_pipeline().reconcile(None), None, 1),
    "gated": (Reason.POD_PENDING, started(GATED), GATED, 60),
    "unschedulable": (
        Reason.POD_UNSCHEDULABLE,
        started(UNSCHEDULABLE := GATED.condition("PodScheduled", "False", "Unschedulable", "cpu")),
        UNSCHEDULABLE,
        60,
    ),
    "not started": (Reason.STEP_PENDING, started(fresh_pod(), **LIMITED), fresh_pod(), 10),
    "running": (Reason.STEP_RUNNING, started(ONE, **LIMITED), ONE, 10),
    "failed": (
        Reason.STEP_FAILED,
        started(fresh_pod().init("one", exit=1)),
        fresh_pod().init("one", exit=1),
        10,
    ),
    "failed, never restarted": (
        Reason.STEP_FAILED,
        started(END := fresh_pod().init("one", exit=1).restarts("Never")),
        END,
        10,
    ),
    "failed, never restarted, retried": (
        Reason.STEP_FAILED,
        started(END, backoffLimit=1),
        END,
        10,
    ),
    "kubelet backs off": (Reason.STEP_BACK_OFF, started(steps_back_off()), steps_back_off(), 60),
    "no image": (
        Reason.IMAGE_PULL_FAILED,
        started(fresh_pod().init("one", waiting="ImagePullBackOff")),
        fresh_pod().init("one", waiting="ImagePullBackOff"),
        60,
    ),
    "invalid image": (
        Reason.IMAGE_PULL_FAILED,
        started(fresh_pod().init("one", waiting="InvalidImageName")),
        fresh_pod().init("one", waiting="InvalidImageName"),
        60,
    ),
    "no ConfigMap": (
        Reason.CONTAINER_CONFIG_ERROR,
        started(fresh_pod().init("one", waiting="CreateContainerConfigError")),
        fresh_pod().init("one", waiting="CreateContainerConfigError"),
        60,
    ),
    "not ready": (
        Reason.CONTAINERS_NOT_READY,
        started(running_pod().ready(False)),
        running_pod().ready(False),
        60,
    ),
    "app failed": (
        Reason.CONTAINER_FAILED,
        started(CRASHED := running_pod().app(exit=1).ready(False), rerunPolicy="Never"),
        CRASHED,
        60,
    ),
    "ready": (Reason.POD_READY, started(running_pod()), running_pod(), 60),
    "succeeded": (
        Reason.POD_SUCCEEDED,
        started(DONE := running_pod().app(exit=0).restarts("Never").phase("Succeeded")),
        DONE,
        60,
    ),
    "node is silent": (Reason.NODE_NOT_READY, started(SILENT), SILENT, 60),
    "given up": (Reason.BACKOFF_LIMIT_EXCEEDED, started(FAILED), FAILED, 60),
    "given up, deleted later": (
        Reason.BACKOFF_LIMIT_EXCEEDED,
        started(FAILED, ttlSecondsAfterFinished=90),
        FAILED,
        60,
    ),
    "step too slow": (
        Reason.STEP_TIMED_OUT,
        started(ONE, **LIMITED).reconcile(ONE, 25),
        ONE.deleting(25),
        40,
    ),
    "run too slow": (
        Reason.INIT_DEADLINE_EXCEEDED,
        started(fresh_pod(), **LIMITED).reconcile(fresh_pod(), 31),
        None,
        60,
    ),
    "too many restarts": (
        Reason.RESTART_LIMIT_EXCEEDED,
        started(AGAIN := fresh_pod().init("one", exit=1, restarts=1), **LIMITED),
        AGAIN,
        10,
    ),
    "failed without a cause": (
        Reason.POD_FAILED,
        started(ENDED).reconcile(ENDED, 15).reconcile(None, 20).reconcile(ENDED.of_run(2), 25),
        ENDED.of_run(2),
        60,
    ),
    "evicted": (
        Reason.POD_EVICTED,
        started(EVICTED := running_pod().phase("Failed", "Evicted", "emptyDir")),
        EVICTED,
        60,
    ),
    "out of time": (
        Reason.POD_DEADLINE_EXCEEDED,
        started(LATE := running_pod().phase("Failed", "DeadlineExceeded", "late")),
        LATE,
        60,
    ),
    "lost, rerunPolicy Never": (
        Reason.POD_LOST,
        started(running_pod(), rerunPolicy="Never").reconcile(None, 20),
        None,
        60,
    ),
    "many runs by users": (Reason.RATE_LIMITED, LIMITED_BY_RATE.reconcile(None, 56), None, 60),
    "many runs by users, suspended": (
        Reason.RATE_LIMITED,
        LIMITED_BY_RATE.policy(suspend=True).reconcile(None, 55).policy(suspend=False),
        None,
        55,
    ),
    "back-off of the operator": (Reason.RERUN_BACK_OFF, TWICE_LOST, None, 60),
    "old Pod terminates": (Reason.POD_TERMINATING, OLD_POD, running_pod().deleting(20), 30),
    "old Pod is stuck": (Reason.POD_TERMINATING, OLD_POD, stuck(running_pod()), 500),
    "old Pod is stuck on a finalizer": (Reason.POD_TERMINATING, OLD_POD, HELD, 500),
    "stuck Pod is gone": (
        Reason.POD_TERMINATING,
        OLD_POD.reconcile(stuck(running_pod()), 500),
        None,
        501,
    ),
    "own Pod terminates": (
        Reason.POD_TERMINATING,
        started(running_pod()),
        running_pod().deleting(20),
        30,
    ),
    "own Pod terminates in a step": (
        Reason.POD_TERMINATING,
        started(ONE),
        ONE.deleting(20),
        30,
    ),
    "own Pod terminates, rerunPolicy Never": (
        Reason.POD_TERMINATING,
        started(running_pod(), rerunPolicy="Never"),
        running_pod().deleting(20),
        30,
    ),
    "own Pod is stuck": (
        Reason.POD_TERMINATING,
        started(running_pod()),
        stuck(running_pod()),
        500,
    ),
    "another owner's Pod is stuck": (
        Reason.POD_TERMINATING,
        NAME_TAKEN,
        stuck(FOREIGN),
        500,
    ),
    "suspended, Pod is stuck": (
        Reason.POD_TERMINATING,
        started(running_pod()).policy(suspend=True).reconcile(running_pod(), 20),
        stuck(running_pod()),
        500,
    ),
    "suspended": (
        Reason.SUSPENDED,
        started(running_pod()).policy(suspend=True).reconcile(None, 20),
        None,
        60,
    ),
    "refused as invalid": (Reason.INVALID_TEMPLATE, refused(INVALID), None, 60),
    "refused by the operator": (
        Reason.INVALID_TEMPLATE,
        new_pipeline(initPolicies=[{"name": "typo"}]).reconcile(None),
        None,
        60,
    ),
    "forbidden": (Reason.POD_FORBIDDEN, refused(FORBIDDEN), None, 60),
    "forbidden for long": (
        Reason.POD_FORBIDDEN,
        refused(FORBIDDEN).reconcile(None, 700, FORBIDDEN),
        None,
        701,
    ),
    "unanswered": (Reason.POD_REQUEST_FAILED, unanswered(), None, 60),
    "unanswered for long": (Reason.POD_REQUEST_FAILED, unanswered(700), None, 701),
    "old Pod is not deleted": (
        Reason.DELETION_FAILED,
        OLD_POD.reconcile(running_pod(), 30, undeleted=KEPT),
        running_pod(),
        60,
    ),
    "old Pod is not deleted for long": (
        Reason.DELETION_FAILED,
        OLD_POD.reconcile(running_pod(), 700, undeleted=KEPT),
        running_pod(),
        701,
    ),
    "suspended, Pod is not deleted for long": (
        Reason.DELETION_FAILED,
        SUSPENDED.reconcile(running_pod(), 700, undeleted=KEPT),
        running_pod(),
        701,
    ),
    "finished, InitPipeline is not deleted for long": (
        Reason.DELETION_FAILED,
        FINISHED.reconcile(completed_pod(), 700, undeleted=KEPT),
        completed_pod(),
        701,
    ),
    "no room in the quota": (
        Reason.QUOTA_EXCEEDED,
        refused(QUOTA).reconcile(None, 700, QUOTA),
        None,
        701,
    ),
    "quota requires requests": (Reason.QUOTA_REQUIRES_RESOURCES, refused(UNSPECIFIED), None, 60),
    "name taken": (Reason.NAME_CONFLICT, NAME_TAKEN, FOREIGN, 60),
    "name taken for long": (
        Reason.NAME_CONFLICT,
        NAME_TAKEN.reconcile(FOREIGN, 700),
        FOREIGN,
        701,
    ),
    "name free again": (Reason.NAME_CONFLICT, NAME_TAKEN.reconcile(FOREIGN, 700), None, 701),
    "operator fails while ready": (
        Reason.RECONCILE_ERROR,
        failing(started(running_pod())),
        running_pod(),
        60,
    ),
    "operator fails before it creates the Pod": (
        Reason.RECONCILE_ERROR,
        failing(new_pipeline().reconcile(None)),
        None,
        60,
    ),
}
"""The reason of Stalled or else of Ready, what is stored, and the seconds of the report."""

NOT_EXPLAINED = {
    Reason.UNREADABLE,  # The plugin cannot read the object either.
    Reason.INITIALIZED,  # A reason of the condition Initialized only.
    Reason.IN_PLACE_UNSUPPORTED,  # Reasons of InPlaceUnavailable, which is informational.
    Reason.IN_PLACE_TOO_OFTEN,
}


def test_cases_all_reasons_are_covered() -> None:
    assert {reason for reason, *_ in CASES.values()} | NOT_EXPLAINED == set(Reason)


@pytest.mark.parametrize(("reason", "state", "pod", "now"), CASES.values(), ids=CASES)
class TestEveryReason:
    def test_report_case_has_its_reason(
        self, reason: Reason, state: SimulatedPipeline, pod: PodBuilder | None, now: float
    ) -> None:
        status = explained(state, pod, now).pipeline.status
        reasons = (formatting.stalled_reason(status), formatting.ready_reason(status))
        assert reason in reasons

    def test_forecast_is_either_automatic_or_up_to_the_user(
        self, reason: Reason, state: SimulatedPipeline, pod: PodBuilder | None, now: float
    ) -> None:
        del reason
        current = explained(state, pod, now)
        assert current.next
        automatic = {line for line in current.next if AUTOMATIC.search(line)}
        by_user = {line for line in current.next if USER_ACTION.search(line)}
        # The deletion of the Pod of a failed run does not start another run.
        automatic -= {f'the operator will delete the Pod "{NAME}"'}
        assert not (automatic - by_user and by_user)
        built = pod.build() if pod else None
        short = short_forecast(current.pipeline, at(now), built)
        given_up = "no run starts until a user takes action"
        assert (short == given_up) <= (given_up in current.next)
        assert not (short == given_up and automatic)

    def test_remedies_rerun_is_offered_only_if_it_has_an_effect(
        self, reason: Reason, state: SimulatedPipeline, pod: PodBuilder | None, now: float
    ) -> None:
        del reason
        current = explained(state, pod, now)
        if not any(" rerun " in remedy.command for remedy in current.remedies):
            return
        facts = Facts(state.token("t").pipeline.build(), pod.build() if pod else None)
        after = decide(facts, at(now))
        assert after.action or not formatting.stalled_reason(after.status)

    def test_remedies_stalled_pipeline_have_a_command(
        self, reason: Reason, state: SimulatedPipeline, pod: PodBuilder | None, now: float
    ) -> None:
        del reason
        current = explained(state, pod, now)
        assert current.remedies or not formatting.stalled_reason(current.pipeline.status)


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        (
            "old Pod is stuck",
            [
                "the operator creates the Pod of run 2 when the old Pod is gone: when the kubelet "
                "confirms that its containers have terminated, or when a user takes action",
                "in order: one, then two, then the app containers",
            ],
        ),
        (
            "old Pod is stuck on a finalizer",
            [
                "the operator creates the Pod of run 2 when the old Pod is gone: when its "
                "finalizers are removed, or when a user takes action",
                "in order: one, then two, then the app containers",
            ],
        ),
        (
            "own Pod terminates, rerunPolicy Never",
            [
                "run 1 ends when its Pod is gone",
                "then no run starts until a user requests one, because rerunPolicy is Never",
                "the InitPipeline becomes Stalled if the old Pod still exists at 12:05:50Z, in "
                "5m20s",
            ],
        ),
        (
            "own Pod terminates",
            [
                "run 1 ends when its Pod is gone",
                "then the operator starts run 2, after a back-off if one is due",
                "the InitPipeline becomes Stalled if the old Pod still exists at 12:05:50Z, in "
                "5m20s",
            ],
        ),
        (
            "suspended, Pod is stuck",
            [
                "the old Pod is gone: when the kubelet confirms that its containers have "
                "terminated, or when a user takes action",
                "no run starts until you resume it",
            ],
        ),
        (
            "failed, never restarted",
            [
                'the kubelet does not restart "one": the Pod and run 1 fail',
                "then no run starts until a user takes action, because backoffLimit is 0",
            ],
        ),
        (
            "failed, never restarted, retried",
            [
                'the kubelet does not restart "one": the Pod and run 1 fail',
                "then the operator starts run 2, after a back-off if one is due",
            ],
        ),
        (
            "operator fails before it creates the Pod",
            [
                "the operator retries with a back-off of up to 5 min, and does not act on this "
                "InitPipeline until that succeeds"
            ],
        ),
    ],
)
def test_forecast_case_has_lines(case: str, lines: list[str]) -> None:
    _, state, pod, now = CASES[case]
    shown = [line for line in explained(state, pod, now).next if "reconciles" not in line]
    assert shown == lines


@pytest.mark.parametrize(
    ("case", "commands"),
    [
        (
            "old Pod is stuck",
            [
                "kubectl describe node node-1 --context c",
                "kubectl taint node node-1 --context c "
                "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
                "kubectl delete pod demo --context c -n x --grace-period=0 --force",
            ],
        ),
        (
            "old Pod is stuck on a finalizer",
            ["kubectl get pod demo --context c -n x -o jsonpath='{.metadata.finalizers}'"],
        ),
        (
            "run too slow",
            [
                "kubectl events --for pod/demo --context c -n x",
                "kubectl edit ipl demo --context c -n x",
                "kubectl edit ipl demo --context c -n x",
                "kubectl initpipeline rerun demo --context c -n x",
            ],
        ),
        (
            "operator fails while ready",
            [
                "kubectl logs -n initpipeline-system -l app.kubernetes.io/name=initpipeline "
                "--prefix --tail=-1 --context c",
                "kubectl get ipl demo --context c -n x -o yaml",
            ],
        ),
        (
            "failed without a cause",
            [
                "kubectl describe pod demo --context c -n x",
                "kubectl edit ipl demo --context c -n x",
                "kubectl initpipeline rerun demo --context c -n x",
            ],
        ),
        (
            "evicted",
            [
                "kubectl describe pod demo --context c -n x",
                "kubectl edit ipl demo --context c -n x",
                "kubectl initpipeline rerun demo --context c -n x",
            ],
        ),
        (
            "out of time",
            [
                "kubectl initpipeline logs demo --context c -n x",
                "kubectl edit ipl demo --context c -n x",
                "kubectl initpipeline rerun demo --context c -n x",
            ],
        ),
        (
            "lost, rerunPolicy Never",
            [
                "kubectl initpipeline history demo --context c -n x",
                "kubectl edit ipl demo --context c -n x",
                "kubectl initpipeline rerun demo --context c -n x",
            ],
        ),
        (
            "back-off of the operator",
            [
                "kubectl initpipeline history demo --context c -n x",
                "kubectl initpipeline rerun demo --context c -n x",
                "kubectl initpipeline suspend demo --context c -n x",
            ],
        ),
        (
            "own Pod terminates",
            [
                "kubectl describe pod demo --context c -n x",
                "kubectl initpipeline suspend demo --context c -n x",
            ],
        ),
    ],
)
def test_remedies_case_has_commands(case: str, commands: list[str]) -> None:
    _, state, pod, now = CASES[case]
    report = explained(state, pod, now, " --context c -n x")
    assert [remedy.command for remedy in report.remedies] == commands


@pytest.mark.parametrize(
    ("case", "effect"),
    [
        pytest.param(
            "evicted",
            "raise the exceeded limit in the template, or let the containers write less, or raise "
            "backoffLimit to 1 or more; either starts a new run",
            id="evicted",
        ),
        pytest.param(
            "out of time",
            "raise activeDeadlineSeconds in the template, or raise backoffLimit to 1 or more; "
            "either starts a new run",
            id="deadline of the Pod",
        ),
        pytest.param(
            "lost, rerunPolicy Never",
            "set rerunPolicy to OnPodLoss or OnRestart; this starts a new run",
            id="lost",
        ),
    ],
)
def test_remedies_ended_run_names_the_field_to_change(case: str, effect: str) -> None:
    _, state, pod, now = CASES[case]
    effects = {remedy.command: remedy.effect for remedy in explained(state, pod, now).remedies}
    assert effects["kubectl edit ipl demo"] == effect


def test_remedies_set_rerun_policy_after_a_loss_starts_a_run() -> None:
    _, state, pod, now = CASES["lost, rerunPolicy Never"]
    after = state.policy(rerunPolicy="OnPodLoss").reconcile(pod, now)
    assert after.run.number == 2


def test_remedies_failed_pod_that_is_gone_are_its_events() -> None:
    _, state, _, now = CASES["evicted"]
    commands = [remedy.command for remedy in explained(state.reconcile(None), None, now).remedies]
    assert commands[0] == "kubectl events --for pod/demo"


class TestLimits:
    POLICIES: dict[str, Any] = {  # noqa: RUF012 (a pytest class is no dataclass)
        "initDeadlineSeconds": 300,
        "initPolicies": [{"name": "one", "timeoutSeconds": 90, "maxRestarts": 2}],
        "backoffLimit": 3,
    }
    RUNNING = fresh_pod().init("one", running=True, restarts=1, last=End(1))

    def test_limits_run_in_progress_have_time_left(self) -> None:
        report = explained(started(self.RUNNING, **self.POLICIES), self.RUNNING)
        shown = text(view.view(report, None)).partition("Limits\n")[2].splitlines()[:4]
        assert [" ".join(line.split()) for line in shown] == [
            'timeoutSeconds of "one" the run fails after 90 s, at 12:01:30Z, in 30s',
            "initDeadlineSeconds the run fails after 300 s, at 12:05:00Z, in 4m",
            'maxRestarts of "one" at most 2 restarts in a run: 1 so far',
            "backoffLimit at most 3 retries: 0 runs failed since the count was last reset",
        ]

    def test_limits_initialized_run_leave_only_backoff_limit(self) -> None:
        report = explained(started(running_pod(), **self.POLICIES), running_pod())
        assert [limit.name for limit in report.limits] == ["backoffLimit"]

    def test_limits_without_policies_are_empty(self) -> None:
        assert explained(started(self.RUNNING), self.RUNNING).limits == ()


class TestRemedies:
    @pytest.mark.parametrize(
        ("state", "pod", "commands"),
        [
            pytest.param(
                started(steps_back_off()),
                steps_back_off(),
                [
                    "kubectl initpipeline logs demo one",
                    "kubectl edit ipl demo",
                    "kubectl initpipeline rerun demo",
                    "kubectl initpipeline suspend demo",
                ],
                id="a step fails",
            ),
            pytest.param(
                started(fresh_pod().init("one", waiting="ImagePullBackOff")),
                fresh_pod().init("one", waiting="ImagePullBackOff"),
                [
                    "kubectl describe pod demo",
                    "kubectl edit ipl demo",
                    "kubectl initpipeline rerun demo",
                    "kubectl initpipeline suspend demo",
                ],
                id="no image",
            ),
            pytest.param(
                refused(FORBIDDEN),
                None,
                [
                    "kubectl edit ipl demo",
                    "kubectl initpipeline rerun demo",
                    "kubectl initpipeline suspend demo",
                ],
                id="forbidden",
            ),
            pytest.param(
                started(running_pod().ready(False)),
                running_pod().ready(False),
                [
                    "kubectl logs demo --all-containers",
                    "kubectl describe pod demo",
                    "kubectl initpipeline rerun demo",
                ],
                id="not ready",
            ),
            pytest.param(
                started(FAILED),
                FAILED,
                [
                    "kubectl initpipeline logs demo one",
                    "kubectl edit ipl demo",
                    "kubectl initpipeline rerun demo",
                ],
                id="given up",
            ),
            pytest.param(
                refused(INVALID),
                None,
                [
                    "kubectl edit ipl demo",
                    "kubectl describe limitrange",
                    "kubectl initpipeline rerun demo",
                ],
                id="invalid",
            ),
            pytest.param(
                new_pipeline(initPolicies=[{"name": "typo"}]).reconcile(None),
                None,
                ["kubectl edit ipl demo"],
                id="invalid in any namespace",
            ),
            pytest.param(
                refused(UNSPECIFIED),
                None,
                [
                    "kubectl edit ipl demo",
                    "kubectl describe limitrange",
                    "kubectl initpipeline rerun demo",
                ],
                id="a quota requires requests",
            ),
            pytest.param(
                refused(OUT_OF_RANGE),
                None,
                [
                    "kubectl edit ipl demo",
                    "kubectl describe limitrange",
                    "kubectl initpipeline rerun demo",
                    "kubectl initpipeline suspend demo",
                ],
                id="outside of a LimitRange",
            ),
            pytest.param(
                refused(QUOTA),
                None,
                [
                    "kubectl describe quota",
                    "kubectl initpipeline rerun demo",
                    "kubectl initpipeline suspend demo",
                ],
                id="no room in the quota",
            ),
            pytest.param(
                new_pipeline().reconcile(None).reconcile(FOREIGN),
                FOREIGN,
                ["kubectl describe pod demo", "kubectl initpipeline suspend demo"],
                id="name taken",
            ),
            pytest.param(
                new_pipeline(suspend=True).reconcile(None),
                None,
                ["kubectl initpipeline resume demo"],
                id="suspended before its first run",
            ),
            pytest.param(
                started(running_pod()).policy(suspend=True).reconcile(None, 20),
                None,
                ["kubectl initpipeline resume demo"],
                id="suspended",
            ),
            pytest.param(
                started(running_pod()),
                running_pod(),
                ["kubectl initpipeline rerun demo"],
                id="ready",
            ),
            pytest.param(
                UNSUPPORTED,
                WITHOUT_RULES,
                ["kubectl edit ipl demo", "kubectl initpipeline rerun demo"],
                id="ready, in-place restarts are not supported",
            ),
            pytest.param(
                IN_PLACE.reconcile(TOO_OFTEN),
                TOO_OFTEN,
                ["kubectl initpipeline history demo", "kubectl initpipeline rerun demo"],
                id="ready, in-place restarts come too often",
            ),
            pytest.param(
                IN_PLACE.reconcile(running_pod().in_place()),
                running_pod().in_place(),
                ["kubectl initpipeline rerun demo"],
                id="ready, restarts in place",
            ),
            pytest.param(
                UNSUPPORTED.policy(suspend=True).reconcile(None, 20),
                None,
                ["kubectl initpipeline resume demo"],
                id="suspended, in-place restarts are not supported",
            ),
        ],
    )
    def test_remedies_state_has_commands(
        self, state: SimulatedPipeline, pod: PodBuilder | None, commands: list[str]
    ) -> None:
        assert [remedy.command for remedy in explained(state, pod).remedies] == commands

    def test_remedies_exceeded_limit_offer_to_raise_it(self) -> None:
        slow = fresh_pod().init("one", running=True)
        policies = {"initDeadlineSeconds": 30}
        state = started(slow, **policies).reconcile(slow, 40)
        effects = [remedy.effect for remedy in explained(state, slow).remedies]
        assert "raise initDeadlineSeconds above 30; this starts another run" in effects

    def test_remedies_unsupported_in_place_restart_names_strategy_and_version(self) -> None:
        edit = explained(UNSUPPORTED, WITHOUT_RULES).remedies[0]
        assert "set rerunStrategy to Recreate" in edit.effect
        assert "Kubernetes 1.36" in edit.effect

    def test_remedies_other_strategy_after_edit_are_not_about_in_place(self) -> None:
        after = UNSUPPORTED.policy(rerunStrategy="Recreate").reconcile(WITHOUT_RULES, 60)
        commands = [remedy.command for remedy in explained(after, WITHOUT_RULES).remedies]
        assert commands == ["kubectl initpipeline rerun demo"]

    @pytest.mark.parametrize(
        ("state", "pod", "effect"),
        [
            pytest.param(
                new_pipeline().reconcile(None).reconcile(FOREIGN),
                FOREIGN,
                "start no more runs",
                id="foreign",
            ),
            pytest.param(refused(QUOTA), None, "start no more runs", id="no Pod"),
            pytest.param(
                started(GATED), GATED, "delete the Pod and start no more runs", id="its own Pod"
            ),
        ],
    )
    def test_remedies_suspend_mentions_only_an_owned_pod(
        self, state: SimulatedPipeline, pod: PodBuilder | None, effect: str
    ) -> None:
        assert explained(state, pod).remedies[-1].effect == effect

    def test_remedies_other_namespace_have_its_flag(self) -> None:
        report = explained(started(FAILED), FAILED, flags=" -n team-a")
        assert all(remedy.command.endswith(" -n team-a") for remedy in report.remedies)


@pytest.mark.parametrize(
    ("state", "pod", "pending"),
    [
        pytest.param(started(running_pod()), running_pod(), (), id="nothing"),
        pytest.param(refused(QUOTA), None, (), id="refused, and retried"),
        pytest.param(
            new_pipeline(), None, ("start run 1 (Created)", "create the Pod of run 1"), id="new"
        ),
        pytest.param(
            started(running_pod()).token("t"),
            running_pod(),
            ("start run 2 (Requested)", 'delete the Pod "demo"'),
            id="requested",
        ),
        pytest.param(
            started(fresh_pod()),
            running_pod(),
            ("set the status to Ready (PodReady)",),
            id="changed Pod",
        ),
        pytest.param(
            started(FAILED, ttlSecondsAfterFinished=0),
            FAILED,
            ("delete this InitPipeline, because ttlSecondsAfterFinished (0 s) has passed",),
            id="ttl has passed",
        ),
    ],
)
def test_pending_state_has_unfinished_actions(
    state: SimulatedPipeline, pod: PodBuilder | None, pending: tuple[str, ...]
) -> None:
    assert explained(state, pod).pending == pending


FOREIGN = fresh_pod().owned_by("another")


@pytest.mark.parametrize(
    ("state", "pod", "labelled"),
    [
        pytest.param(started(running_pod()), running_pod(), True, id="nothing to do"),
        pytest.param(new_pipeline().reconcile(FOREIGN), FOREIGN, False, id="name taken"),
        pytest.param(
            new_pipeline().reconcile(FOREIGN),
            FOREIGN.deleting(20),
            False,
            id="other Pod terminates",
        ),
        pytest.param(new_pipeline().reconcile(FOREIGN), None, True, id="name is free now"),
        pytest.param(refused(QUOTA), None, True, id="quota"),
        pytest.param(refused(FORBIDDEN), None, True, id="forbidden"),
        pytest.param(refused(INVALID), None, True, id="invalid"),
        pytest.param(started(GATED), GATED, True, id="scheduling gate"),
        pytest.param(started(FAILED), FAILED, True, id="given up"),
        pytest.param(new_pipeline(suspend=True).reconcile(None), None, True, id="suspended"),
        pytest.param(
            new_pipeline(suspend=True).reconcile(None).token("t"),
            None,
            True,
            id="request while suspended",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(running_pod(), 20),
            running_pod().deleting(20),
            True,
            id="suspended, and its Pod terminates",
        ),
        pytest.param(
            started(running_pod()).reconcile(None, 20).reconcile(fresh_pod(2)).reconcile(None, 55),
            None,
            True,
            id="back-off before the next run",
        ),
        pytest.param(
            started(FAILED, ttlSecondsAfterFinished=0), FAILED, True, id="deletion may be refused"
        ),
        pytest.param(
            started(running_pod()), running_pod().ready(False), False, id="Pod without our label"
        ),
    ],
)
def test_overdue_operator_that_may_wait_is_empty(
    state: SimulatedPipeline, pod: PodBuilder | None, labelled: bool
) -> None:
    """The watch reports only Pods with the operator's label."""
    built = replace(pod.build(), labelled=labelled) if pod else None
    assert report(Facts(state.pipeline.build(), built), at(60)).overdue == ()


def test_overdue_first_status_of_a_silent_pod_is_empty() -> None:
    """The operator waits three seconds for the scheduler, before it writes the first status."""
    found = explained(new_pipeline(), silent_pod(created=59), now=60)
    assert (found.overdue, found.pending) == ((), ())
    late = explained(new_pipeline(), silent_pod(created=57), now=60)
    assert late.overdue == ("start run 1 (Created)",)


def test_overdue_first_pod_has_actions() -> None:
    found = explained(new_pipeline(), None)
    assert found.overdue == ("start run 1 (Created)", "create the Pod of run 1")


def test_overdue_operator_that_reports_its_failure_is_empty() -> None:
    """The report has the status that the operator has written."""
    state = started(running_pod()).edited()
    marked = error_conditions(state.pipeline.build(), KeyError("x"), at(20))
    assert marked is not None
    condition = marked[-1]
    stalled = Condition.model_validate(condition)
    failed = state.status.model_copy(update={"conditions": (*state.status.conditions, stalled)})
    facts = Facts(replace(state.pipeline.build(), status=failed), running_pod().build())
    found = report(facts, at(60))
    assert found.overdue == ()
    assert found.pipeline.status == failed


def test_overdue_status_without_mirror_is_empty() -> None:
    state = started(running_pod())
    small = status_size.smallest(state.status)
    facts = Facts(replace(state.pipeline.build(), status=small), running_pod().build())
    assert report(facts, at(60)).overdue == ()


@pytest.mark.parametrize(
    ("state", "pod"),
    [
        pytest.param(new_pipeline(), None, id="never reconciled"),
        pytest.param(started(running_pod()).token("t"), running_pod(), id="unanswered request"),
        pytest.param(started(running_pod()).edited(), running_pod(), id="new template"),
        pytest.param(started(running_pod()).policy(suspend=True), running_pod(), id="suspend"),
        pytest.param(started(running_pod()), None, id="lost Pod"),
        pytest.param(started(running_pod()), running_pod().ready(False), id="Pod not Ready"),
        pytest.param(
            started(running_pod()).reconcile(None, 5).reconcile(fresh_pod(2)).reconcile(None, 10),
            None,
            id="nextRunTime has passed",
        ),
    ],
)
def test_overdue_operator_that_ignores_a_change_has_actions(
    state: SimulatedPipeline, pod: PodBuilder | None
) -> None:
    assert explained(state, pod).overdue


class TestView:
    def test_view_has_the_absent_operator_first(self) -> None:
        shown = text(
            view.view(
                explained(new_pipeline(), None),
                "The operator does not appear to be running",
            )
        )
        assert shown.startswith("The operator does not appear to be running\n\ndemo  ")

    def test_view_repeated_message_is_a_ditto_mark(self) -> None:
        shown = text(view.view(explained(started(FAILED), FAILED), None))
        rows = [" ".join(line.split()) for line in shown.splitlines()]
        start = rows.index("Conditions") + 1
        assert rows[start] == (
            'Initialized False for 1m StepFailed init container 1 of 2 "one" exited with 1'
        )
        assert rows[start + 1] == "Ready False for 1m StepFailed (same)"

    def test_view_pod_warning_has_count_and_age(self) -> None:
        slow = fresh_pod().init("one")
        warnings = [PodWarning("FailedMount", 'secret "db" not found', 5, at(50))]
        shown = text(view.view(explained(started(slow), slow), None, warnings))
        rows = [" ".join(line.split()) for line in shown.splitlines()]
        start = rows.index("Warnings about the Pod") + 1
        assert rows[start] == 'FailedMount 5 times, last 10s ago secret "db" not found'

    def test_view_empty_section_has_no_heading(self) -> None:
        report = explained(started(running_pod()), running_pod())
        shown = text(view.view(report, None))
        assert "Limits" not in shown
        assert "Warnings" not in shown

    @pytest.mark.parametrize("pod", [running_pod(), running_pod().ready(False), None])
    @pytest.mark.parametrize("state", [new_pipeline(), started(running_pod()).token("t")])
    def test_view_absent_operator_shows_the_state_of_status(
        self, state: SimulatedPipeline, pod: PodBuilder | None
    ) -> None:
        """``explain`` and ``status`` agree on what an operator that is not running has reported."""
        pipeline = state.pipeline.build()
        found = pod.build() if pod else None
        shown = text(view.view(explained(state, pod), "absent"))
        assert shown.startswith("absent\n\n" + text(status_view.tree(pipeline, at(60), found)))
        data = view.data(explained(state, pod), "absent")
        expected = status_view.data(pipeline, at(60), found)
        assert {key: data[key] for key in expected} == expected

    def test_data_has_operator_remedies_and_conditions(self) -> None:
        state = started(running_pod()).token("t")
        data = view.data(explained(state, running_pod()), None)
        assert data["operator"] == {
            "absent": None,
            "undone": ["start run 2 (Requested)", 'delete the Pod "demo"'],
        }
        assert data["whatYouCanDo"][0]["command"] == "kubectl initpipeline rerun demo"
        assert [condition["type"] for condition in data["conditions"]] == [
            "Initialized",
            "Ready",
            "Reconciling",
        ]
