"""Spans that end with the status writes of a pipeline."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import Result
from initpipeline.core.evolve import evolve
from initpipeline.core.facts import Pipeline
from initpipeline.core.spans import Span, Trace, spans_between
from tests.builders import (
    DURATION,
    End,
    PodBuilder,
    at,
    completed_pod,
    container_id,
    fresh_pod,
    pipeline,
    running_pod,
)
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline

PIPELINE: Pipeline = pipeline().build()
SECRET = "password=hunter2"
FAILED = End(7, start=0, end=5, message=SECRET)
AT_STEP_TWO = fresh_pod().initialized("one").init("two", running=True)
AGAIN = fresh_pod().init("one", running=True, start=20, restarts=1, last=FAILED)
DONE_AGAIN = (
    fresh_pod()
    .init("one", exit=0, start=20, end=25, restarts=1, last=FAILED)
    .init("two", exit=0, start=30, end=40)
)


@dataclass
class Traced:
    """The spans of a pipeline's status writes."""

    state: SimulatedPipeline = field(default_factory=new_pipeline)
    spans: list[Span] = field(default_factory=list)

    def then(self, *pods: PodBuilder | None, again: bool = False) -> "Traced":
        """Reconciles with each of these Pods, half a minute apart. None: no Pod exists."""
        for pod in pods:
            before = self.state.status
            self.state = self.state.reconcile(pod, self.state.now + 30)
            self.spans += spans_between(PIPELINE, before, self.state.status, again=again)
        return self

    def requested(self, pod: PodBuilder, *, again: bool = False) -> "Traced":
        """Requests a run while this Pod exists."""
        self.state = self.state.token(str(self.state.now))
        return self.then(pod, again=again)


def brief(spans: Iterable[Span]) -> list[str]:
    """Returns each span as text: its run, name, and error."""
    return [
        " ".join(
            map(str, filter(None, (one.attributes["initpipeline.run.number"], one.name, one.error)))
        )
        for one in spans
    ]


def test_step_has_a_span_with_the_times_of_the_kubelet_when_it_terminates() -> None:
    traced = Traced().then(None, fresh_pod(), AT_STEP_TWO, AT_STEP_TWO)
    [span] = traced.spans
    assert (span.name, span.start, span.end) == ("step one", at(0), at(DURATION))
    assert span.attributes["container.id"] == container_id("one")
    assert span.attributes["k8s.pod.uid"] == "pod-1"
    assert span.attributes["initpipeline.step.exit_code"] == 0


def test_run_has_a_root_span_when_it_ends() -> None:
    traced = Traced().then(None, fresh_pod(), AT_STEP_TWO, running_pod(), completed_pod())
    assert brief(traced.spans) == ["1 step one", "1 step two", "1 initialize", "1 run"]
    root, run = traced.spans[-1], traced.state.run
    assert (root.parent_id, root.start, root.end) == (None, run.start_time, run.completion_time)
    assert root.attributes["initpipeline.run.trigger"] == "Created"
    assert root.attributes["initpipeline.run.result"] == "Succeeded"
    initialize = traced.spans[-2]
    assert (initialize.start, initialize.end) == (run.start_time, run.initialized_time)


def test_all_spans_of_a_run_are_children_of_its_root_in_one_trace() -> None:
    traced = Traced().then(None, fresh_pod(), AT_STEP_TWO, running_pod(), completed_pod())
    trace = Trace(PIPELINE, 1)
    assert {span.trace_id for span in traced.spans} == {trace.id}
    assert {span.parent_id for span in traced.spans[:-1]} == {trace.root_id}
    assert traced.spans[-1].span_id == trace.root_id
    ids = {span.span_id for span in traced.spans}
    assert len(ids) == len(traced.spans)
    assert all(isinstance(one, int) for one in ids)


def test_ids_of_spans_are_the_same_in_each_version() -> None:
    """Two versions of the operator may trace the same run, for example during an upgrade."""
    traced = Traced().then(None, fresh_pod(), AT_STEP_TWO, running_pod(), completed_pod())
    assert {span.name: f"{span.span_id:016x}" for span in traced.spans} == {
        "step one": "1e0b35079553ab02",
        "step two": "f9f8a616fb1cebc1",
        "initialize": "875c3e7ee8a31c3a",
        "run": "0b475c43be1b7c55",
    }


def test_failed_run_and_its_step_have_the_evidence_as_attributes() -> None:
    killed = End(137, start=0, end=5, reason="OOMKilled", signal=9)
    backing_off = fresh_pod().init("one", waiting="CrashLoopBackOff", last=killed)
    failed = fresh_pod().init("one", exit=7, id="second", reason="Error")
    traced = Traced().then(None, backing_off, failed.restarts("Never").phase("Failed"))
    [first, _, root] = traced.spans
    common = {
        "k8s.namespace.name": "default",
        "k8s.pod.name": "demo",
        "k8s.pod.uid": "pod-1",
        "initpipeline.name": "demo",
        "initpipeline.uid": PIPELINE.uid,
        "initpipeline.run.number": 1,
    }
    assert first.attributes == common | {
        "k8s.container.name": "one",
        "k8s.container.restart_count": 0,
        "container.id": container_id("one"),
        "initpipeline.step.exit_code": 137,
        "initpipeline.step.signal": 9,
        "initpipeline.step.reason": "OOMKilled",
    }
    assert root.attributes == common | {
        "initpipeline.run.trigger": "Created",
        "initpipeline.run.result": "Failed",
        "initpipeline.run.reason": "StepFailed",
    }


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param([fresh_pod().init("one", exit=7, end=5), AGAIN, DONE_AGAIN], id="each state"),
        pytest.param([AGAIN, DONE_AGAIN], id="the failure as last state"),
        pytest.param([DONE_AGAIN], id="only the end"),
    ],
)
def test_each_attempt_of_a_step_has_one_span(pods: list[PodBuilder]) -> None:
    traced = Traced().then(None, fresh_pod(), *pods, running_pod())
    steps = [span for span in traced.spans if span.name == "step one"]
    failed, succeeded = steps[:2]
    assert (failed.error, failed.attributes["initpipeline.step.exit_code"]) == ("Error", 7)
    assert (failed.end, succeeded.start, succeeded.error) == (at(5), at(20), None)
    assert failed.attributes["k8s.container.restart_count"] == 0
    assert succeeded.attributes["k8s.container.restart_count"] == 1


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(End(7, start=None), id="no start"),
        pytest.param(End(7, end=None), id="no end"),
    ],
)
def test_attempt_without_both_times_has_no_span(end: End) -> None:
    backing_off = fresh_pod().init("one", waiting="CrashLoopBackOff", last=end)
    assert Traced().then(None, backing_off).spans == []


def test_failures_without_a_reason_have_an_empty_error() -> None:
    traced = Traced().then(None, fresh_pod().init("one", exit=7))
    status, active = traced.state.status, traced.state.run
    first, *others = deepcopy(status.init_container_statuses)
    del first["state"]["terminated"]["reason"]
    failed = evolve(active, completion_time=at(60), result=Result.FAILED)
    status = evolve(status, run=failed, init_container_statuses=(first, *others))
    spans = spans_between(PIPELINE, InitPipelineStatus(run=active), status, again=False)
    assert [(span.name, span.error) for span in spans] == [("step one", ""), ("run", "")]


def test_step_of_a_status_without_the_uid_of_its_pod_has_no_attributes_of_a_pod() -> None:
    traced = Traced().then(None, AT_STEP_TWO)
    status = evolve(traced.state.status, pod_uid=None)
    [step] = spans_between(PIPELINE, InitPipelineStatus(), status, again=False)
    assert step.name == "step one"
    assert not {name for name in step.attributes if name.startswith("k8s.pod")}


def test_spans_have_no_message_of_a_container() -> None:
    failed = fresh_pod().init("one", exit=7, message=SECRET).restarts("Never").phase("Failed")
    traced = Traced().then(None, fresh_pod(), failed)
    assert brief(traced.spans) == ["1 step one Error", "1 run StepFailed"]
    assert SECRET in repr(traced.state.status), "status has the message"
    assert SECRET not in repr(traced.spans)


def test_superseded_run_ends_and_later_steps_are_of_the_next_run() -> None:
    traced = Traced().then(None, AT_STEP_TWO).requested(AT_STEP_TWO)
    assert brief(traced.spans) == ["1 step one", "1 run"]
    traced.then(None, fresh_pod(2), fresh_pod(2).initialized("one"))
    assert brief(traced.spans[2:]) == ["2 step one"]
    assert traced.spans[-1].trace_id == Trace(PIPELINE, 2).id


def test_run_after_another_has_a_span_for_its_initialization() -> None:
    traced = Traced().then(None, running_pod()).requested(running_pod())
    traced.then(None, fresh_pod(2), running_pod(2))
    assert brief(traced.spans)[-3:] == ["2 step one", "2 step two", "2 initialize"]


def test_run_without_history_has_a_root_span_without_result() -> None:
    traced = Traced(new_pipeline(runHistoryLimit=0)).then(None, AT_STEP_TWO)
    traced.requested(AT_STEP_TWO)
    assert brief(traced.spans) == ["1 step one", "1 run"]
    assert "initpipeline.run.result" not in traced.spans[-1].attributes


def test_lost_run_has_an_error() -> None:
    traced = Traced().then(None, running_pod(), None)
    assert brief(traced.spans) == [
        "1 step one",
        "1 step two",
        "1 initialize",
        "1 run PodLost",
    ]


def test_steps_of_a_run_that_the_kubelet_starts_are_of_that_run() -> None:
    traced = Traced().then(None, running_pod())
    again = fresh_pod().init("one", running=True, restarts=1, start=60, last=End())
    ended = fresh_pod().init("one", exit=0, restarts=1, start=60, end=70, last=End())
    traced.then(again, ended)
    assert traced.state.past == [(1, "Created", "Initialized")]
    assert brief(traced.spans[3:]) == ["1 run", "2 step one"]
    assert (traced.spans[-1].start, traced.spans[-1].end) == (at(60), at(70))


@pytest.mark.parametrize(
    "end", [pytest.param(50, id="normal"), pytest.param(5000, id="the clock of the node is ahead")]
)
def test_attempt_that_the_end_of_the_sandbox_interrupted_is_of_the_run_before(end: float) -> None:
    traced = Traced().then(None, fresh_pod(), AT_STEP_TWO)
    again = (
        fresh_pod()
        .init("one", exit=0, restarts=1, start=60, end=70, last=End())
        .init("two", running=True, restarts=1, start=80, last=End(255, start=10, end=end))
    )
    traced.then(again)
    assert traced.state.run.number == 2
    assert brief(traced.spans) == ["1 step one", "2 step one", "1 step two Error", "1 run"]


def test_attempt_that_ends_when_the_operator_observes_a_run_of_the_kubelet_is_of_that_run() -> None:
    traced = Traced().then(None, running_pod())
    traced.spans.clear()
    again = fresh_pod().init("one", running=True, restarts=2, start=90, last=End(7, 88, 90))
    traced.then(again)
    assert traced.state.run.start_time == at(90)
    assert brief(traced.spans) == ["2 step one Error", "1 run"]


def test_write_without_an_end_has_no_span() -> None:
    traced = Traced().then(None, running_pod())
    traced.spans.clear()
    assert traced.then(running_pod().ready(False), running_pod()).spans == []


class TestAgain:
    """The process that wrote the earlier status may not have exported its spans."""

    def test_ended_spans_of_the_current_run_are_returned_again_with_the_same_ids(self) -> None:
        traced = Traced().then(None, fresh_pod(), AT_STEP_TWO)
        [step] = traced.spans
        traced.then(running_pod(), again=True)
        assert brief(traced.spans[1:]) == ["1 step one", "1 step two", "1 initialize"]
        assert traced.spans[1] == step

    def test_root_of_the_run_before_is_returned_again(self) -> None:
        traced = Traced().then(None, AT_STEP_TWO).requested(AT_STEP_TWO)
        root = traced.spans[-1]
        traced.then(None, fresh_pod(2))
        traced.spans.clear()
        traced.then(fresh_pod(2).initialized("one"), again=True)
        assert brief(traced.spans) == ["2 step one", "1 run"]
        assert traced.spans[-1] == root

    def test_run_that_ends_without_history_has_a_root_span(self) -> None:
        traced = Traced(new_pipeline(runHistoryLimit=0)).then(None, AT_STEP_TWO)
        traced.spans.clear()
        traced.requested(AT_STEP_TWO, again=True)
        assert brief(traced.spans) == ["1 run"]

    def test_attempts_of_an_earlier_run_in_the_same_pod_are_not_returned_again(self) -> None:
        again = fresh_pod().init("one", running=True, restarts=1, start=60, last=End())
        again = again.init("two", exit=0)
        traced = Traced().then(None, running_pod(), again)
        assert traced.state.run.stale_container_ids == (container_id("two"),)
        traced.spans.clear()
        done = again.init("one", exit=0, restarts=1, start=60, end=70, last=End())
        traced.then(done, again=True)
        assert brief(traced.spans) == ["2 step one", "1 initialize", "1 run"]

    def test_older_runs_are_not_returned_again(self) -> None:
        traced = Traced().then(None, running_pod())
        for number in (2, 3, 4):
            traced.requested(running_pod(number - 1)).then(None, running_pod(number))
        traced.spans.clear()
        traced.then(running_pod(4).ready(False), again=True)
        assert {span.attributes["initpipeline.run.number"] for span in traced.spans} == {3, 4}
