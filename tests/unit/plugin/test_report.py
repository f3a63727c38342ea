"""Why a pipeline is where it is, what comes next and when, and what a person can do."""

from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.models import Condition
from initpipeline.api.reasons import Reason
from initpipeline.core import status_size
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts, Refusal
from initpipeline.core.unreadable import error_conditions
from initpipeline.plugin.report.pod_events import PodWarning
from initpipeline.plugin.report.report import Report, report
from initpipeline.plugin.views import explain as view
from tests.builders import End, PodBuilder, at, fresh_pod, running_pod, silent_pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started
from tests.unit.plugin.rendered import text


def explained(
    state: SimulatedPipeline, pod: PodBuilder | None, now: float = 60, flags: str = ""
) -> Report:
    """As the plugin sees it: it reads what the API holds, and has no answer to a creation."""
    facts = Facts(state.pipeline.build(), pod.build() if pod else None)
    return report(facts, decide(facts, at(now)), at(now), flags)


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
ASKED_AGAIN = (
    "the operator retries the creation of the Pod after growing delays of up to 5 min, and at once "
    "when this InitPipeline changes"
)


def refused(refusal: Refusal) -> SimulatedPipeline:
    return new_pipeline().reconcile(None).reconcile(None, refusal=refusal)


@pytest.mark.parametrize(
    ("state", "pod", "first"),
    [
        pytest.param(
            started(steps_back_off()),
            steps_back_off(),
            'the kubelet starts "one" again at about 12:01:30Z, in 30s (a back-off of 40s)',
            id="back-off of the kubelet",
        ),
        pytest.param(
            started(steps_back_off("")),
            steps_back_off(""),
            'the kubelet starts "one" again at about 12:01:30Z, in 30s (a back-off of 40s, by '
            "default)",
            id="back-off that the kubelet has not told yet",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1)),
            fresh_pod().init("one", exit=1),
            'the kubelet starts "one" again at once',
            id="failed for the first time",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1, restarts=2)),
            fresh_pod().init("one", exit=1, restarts=2),
            'the kubelet starts "one" again at any moment (a back-off of 20s, by default)',
            id="back-off that is over",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1).restarts("Never")),
            fresh_pod().init("one", exit=1).restarts("Never"),
            "in their order: one, then two, then the app containers",
            id="failed, and the kubelet does not restart it",
        ),
        pytest.param(
            refused(QUOTA),
            None,
            ASKED_AGAIN,
            id="refused",
        ),
        pytest.param(refused(INVALID), None, ASKED_AGAIN, id="refused as invalid"),
        pytest.param(refused(UNSPECIFIED), None, ASKED_AGAIN, id="refused for want of requests"),
        pytest.param(
            new_pipeline(initPolicies=[{"name": "typo"}]).reconcile(None),
            None,
            "the Pod is created once the spec is corrected",
            id="refused by our own validation",
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
            "the kubelet pulls the image again, after growing delays of up to 5 min",
            id="no image",
        ),
        pytest.param(
            started(fresh_pod().init("one", waiting="InvalidImageName")),
            fresh_pod().init("one", waiting="InvalidImageName"),
            "the kubelet cannot pull an image of this name: nothing happens until it is changed",
            id="no name of an image",
        ),
        pytest.param(
            started(fresh_pod().init("one", waiting="ErrImageNeverPull")),
            fresh_pod().init("one", waiting="ErrImageNeverPull"),
            "the kubelet goes on once the node has the image: imagePullPolicy is Never",
            id="an image that is not to be pulled",
        ),
        pytest.param(
            started(GATED),
            GATED,
            "the scheduler leaves the Pod alone until its scheduling gates are removed",
            id="gated",
        ),
        pytest.param(
            started(SILENT),
            SILENT,
            "if the node reports again, the Pod's state is updated; if not, the control "
            "plane deletes the Pod, by default after 5 min",
            id="its node has stopped reporting",
        ),
        pytest.param(
            started(running_pod()).reconcile(None, 20).reconcile(fresh_pod(2)).reconcile(None, 55),
            None,
            "run 3 starts at 12:01:05Z, in 5s; a person's request does not wait",
            id="back-off of the operator",
        ),
        pytest.param(
            started(running_pod()).edited().reconcile(running_pod(), 20),
            running_pod().deleting(20),
            "the operator creates the Pod of run 2 once the old one is gone",
            id="the old Pod goes",
        ),
        pytest.param(
            started(FAILED),
            FAILED,
            "no run follows by itself: it needs a person",
            id="given up",
        ),
        pytest.param(
            new_pipeline(suspend=True).reconcile(None),
            None,
            "no run starts until it is resumed",
            id="suspended",
        ),
        pytest.param(
            started(running_pod()),
            running_pod(),
            "all steps run again when an app container restarts (with a new Pod), the Pod is lost, "
            "the kubelet restarts the Pod, the template changes, or a person asks",
            id="ready",
        ),
        pytest.param(
            started(running_pod(), rerunPolicy="OnPodLoss"),
            running_pod(),
            "all steps run again when the Pod is lost, the kubelet restarts the Pod, the template "
            "changes, or a person asks",
            id="ready, and a restart does nothing",
        ),
        pytest.param(
            started(FAILED, ttlSecondsAfterFinished=60).reconcile(FAILED, 1),
            FAILED,
            "the operator is to delete this InitPipeline: its ttlSecondsAfterFinished of 60 s is "
            "over",
            id="its time is over",
        ),
    ],
)
def test_what_happens_first(state: SimulatedPipeline, pod: PodBuilder | None, first: str) -> None:
    assert explained(state, pod).next[0] == first


def test_the_end_of_its_time_is_told_beforehand() -> None:
    report = explained(started(FAILED, ttlSecondsAfterFinished=90), FAILED)
    assert (
        "this InitPipeline is deleted at 12:01:30Z, in 30s (ttlSecondsAfterFinished)" in report.next
    )


class TestLimits:
    POLICIES: dict[str, Any] = {  # noqa: RUF012 (a pytest class is no dataclass)
        "initDeadlineSeconds": 300,
        "initPolicies": [{"name": "one", "timeoutSeconds": 90, "maxRestarts": 2}],
        "backoffLimit": 3,
    }
    RUNNING = fresh_pod().init("one", running=True, restarts=1, last=End(1))

    def test_those_the_run_is_under_with_the_time_left(self) -> None:
        report = explained(started(self.RUNNING, **self.POLICIES), self.RUNNING)
        shown = text(view.view(report, at(60), None)).partition("Limits\n")[2].splitlines()[:4]
        assert [" ".join(line.split()) for line in shown] == [
            'timeoutSeconds of "one" 90 s: then the run fails, at 12:01:30Z, in 30s',
            "initDeadlineSeconds 300 s: then the run fails, at 12:05:00Z, in 4m",
            'maxRestarts of "one" 2: restarted 1 time in this run',
            "backoffLimit 3: 0 runs failed since a person last started one",
        ]

    def test_a_run_that_is_initialized_has_met_them(self) -> None:
        report = explained(started(running_pod(), **self.POLICIES), running_pod())
        assert [limit.name for limit in report.limits] == ["backoffLimit"]

    def test_without_any_there_are_none(self) -> None:
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
                id="invalid whatever the namespace does",
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
                ["kubectl get pod demo -o wide", "kubectl initpipeline suspend demo"],
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
        ],
    )
    def test_what_helps(
        self, state: SimulatedPipeline, pod: PodBuilder | None, commands: list[str]
    ) -> None:
        assert [remedy.command for remedy in explained(state, pod).remedies] == commands

    def test_a_limit_that_ended_the_run_can_be_raised(self) -> None:
        slow = fresh_pod().init("one", running=True)
        policies = {"initDeadlineSeconds": 30}
        state = started(slow, **policies).reconcile(slow, 40)
        effects = [remedy.effect for remedy in explained(state, slow).remedies]
        assert "raise initDeadlineSeconds over 30: another run starts then" in effects

    @pytest.mark.parametrize(
        ("state", "pod", "effect"),
        [
            pytest.param(
                new_pipeline().reconcile(None).reconcile(FOREIGN),
                FOREIGN,
                "try no more",
                id="foreign",
            ),
            pytest.param(refused(QUOTA), None, "try no more", id="no Pod"),
            pytest.param(started(GATED), GATED, "delete the Pod and try no more", id="its own Pod"),
        ],
    )
    def test_suspend_deletes_only_a_pod_that_the_pipeline_owns(
        self, state: SimulatedPipeline, pod: PodBuilder | None, effect: str
    ) -> None:
        assert explained(state, pod).remedies[-1].effect == effect

    def test_commands_can_be_pasted_where_the_namespace_is_another(self) -> None:
        report = explained(started(FAILED), FAILED, flags=" -n team-a")
        assert all(remedy.command.endswith(" -n team-a") for remedy in report.remedies)


@pytest.mark.parametrize(
    ("state", "pod", "undone"),
    [
        pytest.param(started(running_pod()), running_pod(), (), id="nothing"),
        pytest.param(refused(QUOTA), None, (), id="refused, and asked again by and by"),
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
            new_pipeline().reconcile(None).reconcile(silent_pod()),
            running_pod(),
            ("write to status that it is Ready (PodReady)",),
            id="the Pod has changed",
        ),
        pytest.param(
            started(FAILED, ttlSecondsAfterFinished=0),
            FAILED,
            ("delete this InitPipeline: its ttlSecondsAfterFinished of 0 s is over",),
            id="its time is over",
        ),
    ],
)
def test_what_the_operator_has_yet_to_do(
    state: SimulatedPipeline, pod: PodBuilder | None, undone: tuple[str, ...]
) -> None:
    assert explained(state, pod).pending == undone


FOREIGN = fresh_pod().owned_by("another")


@pytest.mark.parametrize(
    ("state", "pod", "watched"),
    [
        pytest.param(started(running_pod()), running_pod(), True, id="nothing to do"),
        pytest.param(new_pipeline().reconcile(FOREIGN), FOREIGN, False, id="name taken"),
        pytest.param(
            new_pipeline().reconcile(FOREIGN), FOREIGN.deleting(20), False, id="other Pod goes"
        ),
        pytest.param(new_pipeline().reconcile(FOREIGN), None, True, id="name free by now"),
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
            id="suspended, and its Pod goes",
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
def test_operator_that_may_wait_is_not_overdue(
    state: SimulatedPipeline, pod: PodBuilder | None, watched: bool
) -> None:
    facts = Facts(state.pipeline.build(), pod.build() if pod else None)
    found = report(facts, decide(facts, at(60)), at(60), pod_watched=watched)
    assert found.overdue == ()


def test_operator_that_reports_its_failure_is_not_overdue() -> None:
    """Its report is shown, and not what it would do otherwise."""
    state = started(running_pod()).edited()
    marked = error_conditions(state.pipeline.build(), KeyError("x"), at(20))
    assert marked is not None
    condition = marked[-1]
    stalled = Condition.model_validate(condition)
    failed = state.status.model_copy(update={"conditions": (*state.status.conditions, stalled)})
    facts = Facts(replace(state.pipeline.build(), status=failed), running_pod().build())
    found = report(facts, decide(facts, at(60)), at(60))
    assert found.overdue == ()
    assert found.pipeline.status == failed


def test_operator_that_left_out_the_mirror_is_not_overdue() -> None:
    state = started(running_pod())
    small = status_size.smallest(state.status)
    facts = Facts(replace(state.pipeline.build(), status=small), running_pod().build())
    assert report(facts, decide(facts, at(60)), at(60)).overdue == ()


@pytest.mark.parametrize(
    ("state", "pod"),
    [
        pytest.param(new_pipeline(), None, id="never looked at"),
        pytest.param(started(running_pod()).token("t"), running_pod(), id="unanswered request"),
        pytest.param(started(running_pod()).edited(), running_pod(), id="new template"),
        pytest.param(started(running_pod()).policy(suspend=True), running_pod(), id="suspend"),
        pytest.param(started(running_pod()), None, id="lost Pod"),
        pytest.param(started(running_pod()), running_pod().ready(False), id="Pod not Ready"),
        pytest.param(
            started(running_pod()).reconcile(None, 5).reconcile(fresh_pod(2)).reconcile(None, 10),
            None,
            id="time of the next run is over",
        ),
    ],
)
def test_operator_that_was_notified_and_did_nothing_is_overdue(
    state: SimulatedPipeline, pod: PodBuilder | None
) -> None:
    assert explained(state, pod).overdue


class TestView:
    def test_an_absent_operator_comes_first(self) -> None:
        shown = text(
            view.view(
                explained(new_pipeline(), None), at(60), "The operator seems not to be running"
            )
        )
        assert shown.startswith("The operator seems not to be running\n\ndemo  ")

    def test_a_message_is_not_said_twice(self) -> None:
        shown = text(view.view(explained(started(FAILED), FAILED), at(60), None))
        rows = [" ".join(line.split()) for line in shown.splitlines()]
        start = rows.index("Conditions") + 1
        assert rows[start] == (
            'Initialized False for 1m StepFailed init container 1 of 2 "one" exited with 1'
        )
        assert rows[start + 1] == 'Ready False for 1m StepFailed "'

    def test_what_is_warned_of_the_pod(self) -> None:
        slow = fresh_pod().init("one")
        warned = [PodWarning("FailedMount", 'secret "db" not found', 5, at(50))]
        shown = text(view.view(explained(started(slow), slow), at(60), None, warned))
        rows = [" ".join(line.split()) for line in shown.splitlines()]
        start = rows.index("Warnings about the Pod") + 1
        assert rows[start] == 'FailedMount 5 times, last 10s ago secret "db" not found'

    def test_what_is_empty_has_no_heading(self) -> None:
        report = explained(started(running_pod()), running_pod())
        shown = text(view.view(report, at(60), None))
        assert "Limits" not in shown
        assert "Warnings" not in shown

    def test_data_for_a_program(self) -> None:
        state = started(running_pod()).token("t")
        data = view.data(explained(state, running_pod()), at(60), "absent")
        assert data["operator"] == {
            "absent": "absent",
            "undone": ["start run 2 (Requested)", 'delete the Pod "demo"'],
        }
        assert data["whatYouCanDo"][0]["command"] == "kubectl initpipeline rerun demo"
        assert [condition["type"] for condition in data["conditions"]] == [
            "Initialized",
            "Ready",
            "Reconciling",
        ]
