"""Log lines that follow from the status writes of a pipeline."""

from dataclasses import dataclass, field

import pytest

from initpipeline.api.reasons import Reason, Result
from initpipeline.core.facts import Refusal
from initpipeline.core.run_events import events_between
from initpipeline.core.run_ids import run_id, span_id, trace_id
from initpipeline.core.run_log import ORDER, RunLine, lines_between
from tests.builders import End, PodBuilder, completed_pod, fresh_pod, running_pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline

SECRET = "password=hunter2"
FAILED = fresh_pod().init("one", exit=7, message=SECRET)
AT_STEP_TWO = fresh_pod().initialized("one").init("two", running=True)
DONE = fresh_pod().initialized("one", "two")


@dataclass
class Log:
    """The lines of a pipeline's status writes."""

    state: SimulatedPipeline = field(default_factory=new_pipeline)
    lines: list[RunLine] = field(default_factory=list)

    def then(self, *pods: PodBuilder | None, refused: Refusal | None = None) -> "Log":
        """Reconciles with each of these Pods, half a minute apart. None: no Pod exists."""
        for pod in pods:
            before = self.state.status
            self.state = self.state.reconcile(pod, self.state.now + 30, refused)
            after = self.state.status
            self.lines += lines_between(before, after, events_between(before, after))
        return self

    def texts(self) -> list[str]:
        """Returns each line as text: message, run, step, and the further fields."""
        return [
            " ".join(
                str(value)
                for value in (
                    *(line.message, line.run, line.step),
                    *(f"{name}={value}" for name, value in line.fields.items()),
                )
                if value is not None
            )
            for line in self.lines
        ]


def test_run_without_failure_has_a_line_for_start_steps_and_initialization() -> None:
    log = Log().then(None, fresh_pod(), AT_STEP_TWO, DONE, running_pod(), running_pod())
    assert log.texts() == [
        "run started 1",
        "step completed 1 one",
        "step completed 1 two",
        "run initialized 1",
    ]
    assert {one.trigger for one in log.lines} == {"Created"}


def test_run_that_is_first_observed_when_it_is_initialized_has_the_same_lines() -> None:
    observed = Log().then(None, fresh_pod(), AT_STEP_TWO, DONE, running_pod())
    assert Log().then(None, running_pod()).texts() == observed.texts()


def test_succeeded_run_has_a_line_for_its_end() -> None:
    log = Log().then(None, running_pod(), completed_pod())
    assert (log.texts()[-1], log.lines[-1].trigger) == ("run ended 1 result=Succeeded", "Created")


def test_failed_step_is_logged_with_exit_code_and_without_its_message() -> None:
    log = Log().then(None, fresh_pod(), FAILED.restarts("Never").phase("Failed"))
    assert log.texts() == [
        "run started 1",
        "step failed 1 one exit_code=7 reason=Error",
        "run ended 1 result=Failed reason=StepFailed",
        "given up 1 reason=BackoffLimitExceeded",
    ]
    assert SECRET not in repr(log.lines)


def test_step_that_a_signal_terminated_is_logged_with_the_signal() -> None:
    killed = End(137, signal=9, reason="OOMKilled")
    log = Log().then(None, fresh_pod().init("one", waiting="CrashLoopBackOff", last=killed))
    assert log.texts()[-1] == "step failed 1 one exit_code=137 signal=9 reason=OOMKilled"


def test_requested_run_has_a_line_for_the_end_of_the_earlier_run_before_its_start() -> None:
    log = Log().then(None, AT_STEP_TWO)
    log.state = log.state.token("now")
    log.then(AT_STEP_TWO)
    assert log.texts()[-2:] == ["run ended 1 result=Superseded reason=StepRunning", "run started 2"]
    assert log.lines[-1].trigger == "Requested"


def test_run_without_history_has_a_line_for_its_end_without_result() -> None:
    log = Log(new_pipeline(runHistoryLimit=0)).then(None, AT_STEP_TWO)
    log.state = log.state.token("now")
    log.then(AT_STEP_TWO)
    assert log.texts()[-2:] == ["run ended 1", "run started 2"]


def test_refused_pod_has_one_line_for_each_reason() -> None:
    quota = Refusal(Reason.QUOTA_EXCEEDED, f"exceeded quota: {SECRET}")
    log = Log().then(None).then(None, None, refused=quota)
    assert log.texts() == ["run started 1", "Pod not created 1 reason=QuotaExceeded"]


def test_write_without_change_of_a_run_has_no_line() -> None:
    log = Log().then(None, AT_STEP_TWO)
    log.lines.clear()
    assert log.then(AT_STEP_TWO, AT_STEP_TWO).texts() == []


def test_pipeline_without_a_run_has_no_line() -> None:
    assert Log(new_pipeline(suspend=True)).then(None, None).texts() == []


def test_each_message_has_a_place_in_the_order() -> None:
    log = Log().then(None, fresh_pod(), FAILED.restarts("Never").phase("Failed"))
    assert {one.message for one in log.lines} <= set(ORDER)


def test_each_result_of_a_run_is_logged_as_it_is() -> None:
    assert all(str(result) == result.value for result in Result)


class TestIds:
    def test_run_id_is_readable(self) -> None:
        assert run_id("team-a", "demo", 3) == "team-a/demo#3"

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(("uid", 2), id="another run"),
            pytest.param(("other", 1), id="another pipeline"),
            pytest.param(("uid1", 1), id="a UID that ends like the number"),
        ],
    )
    def test_trace_id_differs_between_runs(self, other: tuple[str, int]) -> None:
        assert trace_id("uid", 1) == trace_id("uid", 1)
        assert trace_id("uid", 1) != trace_id(*other)

    def test_ids_have_the_length_of_opentelemetry(self) -> None:
        trace = trace_id("uid", 1)
        assert 0 < trace < 2**128
        assert 0 < span_id(trace, "run") < 2**64

    def test_ids_are_those_of_earlier_versions(self) -> None:
        """During a rollout, replicas of two versions report the same run."""
        trace = trace_id("6a9f1d57-47cc-424c-93ab-ae66f3a77188", 3)
        assert f"{trace:032x}" == "29a436aa8e53e354e9673a5001725cbe"
        assert f"{span_id(trace, 'step', 'migrate'):016x}" == "8fc0ac890d878333"

    def test_span_id_depends_on_trace_and_each_part(self) -> None:
        one, two = trace_id("uid", 1), trace_id("uid", 2)
        ids = {span_id(t, *w) for t in (one, two) for w in (("a", "bc"), ("ab", "c"), ("abc",))}
        assert len(ids) == 6
