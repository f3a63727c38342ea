"""Tests ``status``: the tree of one pipeline, and the table of several."""

from typing import Any

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import Reason
from initpipeline.core.facts import Refusal
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Mode, Moment
from initpipeline.plugin.report.steps import State, steps
from initpipeline.plugin.report.summary import short_forecast, state_line, summary
from initpipeline.plugin.views import status as view
from tests.builders import (
    NEVER,
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    pipeline,
    running_pod,
)
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started
from tests.unit.plugin.rendered import text


def tree(of: SimulatedPipeline, now: float = 60) -> list[str]:
    return text(view.tree(of.pipeline.build(), at(now))).splitlines()


def backing_off(restarts: int = 2) -> PodBuilder:
    last = End(3, 20, 24, message="no such table")
    pod = fresh_pod().initialized("one")
    return pod.init("two", waiting="CrashLoopBackOff", restarts=restarts, last=last)


class TestTree:
    def test_tree_failing_step_has_cause_and_next(self) -> None:
        assert tree(started(backing_off())) == [
            "demo  namespace default  Failing  StepBackOff  1/2",
            '├── init container 2 of 2 "two" exited with 3, restarted 2 times: no such table',
            "├── run 1, Created, started 1m ago, Pod demo on node-1",
            "│   ├──  1  one  done             8s",
            "│   └──  2  two  backing off      4s  restarted 2 times, exit 3, no such table",
            "└── next: two, then the app containers",
        ]

    def test_tree_ready_pipeline_has_all_steps_done(self) -> None:
        assert tree(started(running_pod())) == [
            "demo  namespace default  Ready  PodReady  2/2",
            "├── the Pod is Ready",
            "├── run 1, Created, started 1m ago, initialized after 18s, Pod demo on node-1",
            "│   ├──  1  one  done             8s",
            "│   └──  2  two  done             8s",
            "└── next: nothing, the Pod is Ready",
        ]

    def test_tree_without_status_is_not_ready(self) -> None:
        assert tree(new_pipeline()) == [
            "demo  namespace default  NotReady",
            "├── the operator has not written its status yet",
            "└── next: the operator starts run 1",
        ]

    def test_tree_message_of_several_lines_is_one_line(self) -> None:
        pod = fresh_pod().init("one", exit=1, message="first\n  second")
        assert '"one" exited with 1: first / second' in tree(started(pod))[1]

    def test_tree_run_has_token_and_cause(self) -> None:
        ended = running_pod().app(running=True, restarts=1, last=End(137, reason="OOMKilled"))
        again = started(running_pod()).token("t1").reconcile(running_pod(), 30)
        assert "run 2, Requested" in tree(again)[2]
        assert "rerun token t1" in tree(again)[2]
        caused = started(running_pod()).reconcile(ended, 30)
        assert "container app: exit 137 (OOMKilled)" in tree(caused)[2]

    def test_tree_running_sidecar_of_ended_run_stops_with_the_run(self) -> None:
        """The status does not report how long the sidecar ran after that."""
        pod = fresh_pod().restarts("Never").phase("Failed")
        pod = pod.sidecar("one", running=True).init("two", exit=1, start=10)
        shown = tree(new_pipeline().reconcile(None).reconcile(pod, 20), now=900)
        assert shown[3] == "│   ├──  1  one  stopped         20s"


@pytest.mark.parametrize(
    ("state", "line"),
    [
        pytest.param(new_pipeline(), "the operator starts run 1", id="new"),
        pytest.param(
            started(fresh_pod()), "one, then two, then the app containers", id="at a step"
        ),
        pytest.param(
            started(fresh_pod().initialized("one", "two")),
            "the app containers become ready",
            id="initialized",
        ),
        pytest.param(started(running_pod()), "nothing, the Pod is Ready", id="ready"),
        pytest.param(
            started(completed_pod()),
            "nothing, all containers have succeeded",
            id="succeeded",
        ),
        pytest.param(
            new_pipeline(suspend=True).reconcile(None),
            "nothing until it is resumed",
            id="suspended",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=1).phase("Failed").restarts("Never")),
            "no run starts until a user takes action",
            id="given up",
        ),
        pytest.param(
            started(running_pod()).reconcile(None, 20).reconcile(fresh_pod(2)).reconcile(None, 30),
            "run 3 starts at 12:00:40Z, in 10s",
            id="waiting for the next run",
        ),
    ],
)
def test_short_forecast_state_has_next_action(state: SimulatedPipeline, line: str) -> None:
    assert short_forecast(state.pipeline.build(), at(30)) == line


def state_of(pod: PodBuilder, name: str = "one") -> State:
    found = steps(started(pod).pipeline.build())
    return next(step.state for step in found if step.name == name)


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        pytest.param(fresh_pod(), State.TO_RUN, id="not reported yet"),
        pytest.param(fresh_pod().init("one", running=True), State.RUNNING, id="running"),
        pytest.param(fresh_pod().init("one", exit=0), State.DONE, id="succeeded"),
        pytest.param(fresh_pod().init("one", exit=1), State.FAILED, id="failed"),
        pytest.param(
            fresh_pod().init("one", waiting="CrashLoopBackOff", last=End(1), restarts=1),
            State.BACKING_OFF,
            id="in back-off",
        ),
        pytest.param(
            fresh_pod().init(
                "one", waiting="RunContainerError", last=End(128, NEVER, 8, "StartError")
            ),
            State.FAILED,
            id="could not be started",
        ),
        pytest.param(
            fresh_pod().init("one", waiting="ImagePullBackOff"), State.WAITING, id="no image"
        ),
        pytest.param(
            fresh_pod().init("one", running=True, last=End(1), restarts=1),
            State.RUNNING,
            id="runs again",
        ),
    ],
)
def test_steps_status_has_state(pod: PodBuilder, state: State) -> None:
    assert state_of(pod) is state


def test_steps_success_of_earlier_run_is_to_run() -> None:
    """After a restart of the sandbox, the kubelet reports it until the step runs again."""
    again = fresh_pod().initialized("two").init("one", running=True, start=40, restarts=1)
    state = started(running_pod()).reconcile(again, 40)
    first, second = steps(state.pipeline.build())
    assert (first.state, second.state) == (State.RUNNING, State.TO_RUN)
    assert second.started is None, "the times belong to the run before"
    assert first.restarts == 0, "the kubelet counts the restarts of all runs in a Pod"


class TestTable:
    def rows(self, *worlds: SimulatedPipeline, **options: Any) -> list[list[str]]:
        pipelines = [one.pipeline.build() for one in worlds]
        chosen = {"namespaces": False, "wide": False, **options}
        return [line.split() for line in text(view.table(pipelines, at(60), **chosen)).splitlines()]

    def test_table_stalled_pipelines_come_first(self) -> None:
        failed = started(fresh_pod().init("one", exit=1).phase("Failed").restarts("Never"))
        assert self.rows(started(running_pod()), started(fresh_pod()), failed) == [
            ["NAME", "STATUS", "INIT", "STEP", "RUN", "TRIGGER", "STARTED", "REASON"],
            ["demo", "Stalled", "0/2", "one", "1", "Created", "1m", "ago", "StepFailed"],
            ["demo", "Reconciling", "0/2", "one", "1", "Created", "1m", "ago", "StepPending"],
            ["demo", "Ready", "2/2", "-", "1", "Created", "1m", "ago", "PodReady"],
        ]

    def test_table_has_failing_pipelines_first_of_their_status(self) -> None:
        rows = self.rows(started(fresh_pod()), started(backing_off()), started(fresh_pod()))
        assert [row[-1] for row in rows[1:]] == ["StepBackOff", "StepPending", "StepPending"]

    def test_table_of_all_namespaces_has_namespace(self) -> None:
        head, row = self.rows(started(running_pod()), namespaces=True)
        assert (head[0], row[0]) == ("NAMESPACE", "default")

    def test_table_wide_has_node_and_message(self) -> None:
        head, row = self.rows(started(running_pod()), wide=True)
        assert head[-2:] == ["NODE", "MESSAGE"]
        assert " ".join(row[-5:]) == "node-1 the Pod is Ready"

    def test_table_without_status_has_dashes(self) -> None:
        _, row = self.rows(new_pipeline())
        assert row == ["demo", "NotReady", "-", "-", "-", "-", "-", "-"]


def test_line_failing_step_has_cause() -> None:
    line = view.line(started(backing_off()).pipeline.build())
    assert line == (
        "demo: run 1 (Created) Failing 1/2 StepBackOff: "
        'init container 2 of 2 "two" exited with 3, restarted 2 times: no such table'
    )


def test_data_failing_step_has_its_fields() -> None:
    data = view.data(started(backing_off()).pipeline.build(), at(60))
    assert (data["status"], data["reason"], data["initProgress"]) == (
        "Failing",
        "StepBackOff",
        "1/2",
    )
    assert data["steps"][1] == {
        "position": 2,
        "name": "two",
        "state": "backing off",
        "sidecar": False,
        "startTime": "2030-01-01T12:00:20Z",
        "finishTime": "2030-01-01T12:00:24Z",
        "restarts": 2,
        "exitCode": 3,
        "reason": "Error",
        "message": "no such table",
    }
    assert "completedInitContainers" not in data["run"], "internal to the operator"


def test_tree_refused_pod_has_message_of_api_server() -> None:
    refusal = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: pods=1")
    shown = tree(new_pipeline().reconcile(None).reconcile(None, refusal=refusal))
    assert shown[:2] == [
        "demo  namespace default  Failing  QuotaExceeded  0/2",
        "├── exceeded quota: pods=1",
    ]


@pytest.mark.parametrize(
    ("policies", "limit"),
    [
        pytest.param({}, ", without a timeout", id="no limit"),
        pytest.param({"initDeadlineSeconds": 900}, "", id="deadline"),
        pytest.param({"initPolicies": [{"name": "one", "timeoutSeconds": 900}]}, "", id="timeout"),
        pytest.param(
            {"initPolicies": [{"name": "two", "timeoutSeconds": 900}]},
            ", without a timeout",
            id="timeout of another step",
        ),
    ],
)
def test_message_of_a_running_step_has_its_duration_and_whether_a_limit_ends_it(
    policies: dict[str, Any], limit: str
) -> None:
    seen = fresh_pod().init("one", running=True, start=20)
    state = started(seen, **policies).reconcile(seen, 25)
    shown = state_line(state.pipeline.build(), at(80))
    assert shown == f'init container 1 of 2 "one" has been running for 1m{limit}'
    assert Moment(at(20), Mode.FOR) in shown.parts


def test_message_of_a_step_that_has_not_started_has_no_duration() -> None:
    state = started(fresh_pod())
    shown = state_line(state.pipeline.build(), at(80))
    assert shown == formatting.state_message(state.status)


def test_message_of_a_sidecar_whose_startup_probe_is_pending_has_no_timeout() -> None:
    seen = fresh_pod().sidecar("one", running=True, started=False, startup_probe=True)
    state = started(seen).reconcile(seen, 25)
    shown = state_line(state.pipeline.build(), at(80))
    assert ", but its startupProbe has not succeeded yet" in shown
    assert "without a timeout" not in shown


def test_summary_empty_status_is_not_ready() -> None:
    assert summary(InitPipelineStatus()) == "NotReady"


def test_steps_without_status_are_empty() -> None:
    assert steps(pipeline().build()) == ()
