"""Tests the bars of a timeline: their phases, times and texts."""

from datetime import datetime
from typing import Any

import pytest

from initpipeline.api.models import CompletedInitContainer, FailedStep, Run, RunRecord
from initpipeline.api.models import InitPipelineStatus as Status
from initpipeline.api.reasons import Result, Trigger
from initpipeline.plugin.report.chart import Chart, Phase, Row, chart
from tests.builders import End, PodBuilder, at, container_id, pipeline, pod

Bar = tuple[Phase, float, float]


def record(number: int, *, start: float, init: float | None, end: float, **more: Any) -> RunRecord:
    """Returns a run that has ended."""
    more = {"trigger": Trigger.CREATED, "result": Result.INITIALIZED} | more
    initialized = None if init is None else at(init)
    return RunRecord(
        number=number,
        start_time=at(start),
        initialized_time=initialized,
        completion_time=at(end),
        **more,
    )


def current(*, start: float = 0, init: float | None = None, **more: Any) -> Run:
    """Returns the current run, with number 1 by default."""
    initialized = None if init is None else at(init)
    fields: dict[str, Any] = {"number": 1, "trigger": Trigger.CREATED, "pod_uid": "pod-1"}
    return Run(start_time=at(start), initialized_time=initialized, **fields | more)


def drawn(status: Status, now: float = 100) -> Chart:
    return chart(pipeline().with_status(status).build(), at(now))


def steps(run: Run, of: PodBuilder, now: float = 100) -> list[Row]:
    """Returns the rows of the steps of a run with this Pod."""
    statuses = tuple(of.raw()["status"]["initContainerStatuses"])
    return list(drawn(Status(run=run, init_container_statuses=statuses), now).sections[1].rows)


def runs(*history: RunRecord, now: float = 100, run: Run | None = None) -> list[Row]:
    return list(drawn(Status(run=run, history=history), now).sections[0].rows)


def bars(row: Row) -> list[Bar]:
    def seconds(time: datetime) -> float:
        return (time - at(0)).total_seconds()

    return [(s.phase, seconds(s.start), seconds(s.end)) for s in row.segments]


class TestRuns:
    def test_runs_are_oldest_first(self) -> None:
        second, first = record(2, start=20, init=None, end=30), record(1, start=0, init=5, end=10)
        shown = runs(second, first, run=current(number=3, start=40))
        assert [row.label for row in shown] == ["1 Created", "2 Created", "3 Created"]

    @pytest.mark.parametrize(
        ("run", "expected", "words"),
        [
            pytest.param(current(), [(Phase.INIT, 0, 100)], "for 1m40s", id="steps in progress"),
            pytest.param(
                current(init=8),
                [(Phase.INIT, 0, 8), (Phase.APP, 8, 100)],
                "init 8s",
                id="initialized",
            ),
        ],
    )
    def test_run_in_progress_lasts_until_now(
        self, run: Run, expected: list[Bar], words: str
    ) -> None:
        [row] = runs(run=run)
        assert (bars(row), row.words) == (expected, words)

    def test_run_at_a_step_has_its_name(self) -> None:
        [row] = drawn(Status(run=current(), current_step="migrate")).sections[0].rows
        assert row.words == "for 1m40s, at migrate"

    @pytest.mark.parametrize(
        ("ended", "expected", "words"),
        [
            pytest.param(
                record(1, start=0, init=5, end=50),
                [(Phase.INIT, 0, 5), (Phase.APP, 5, 50)],
                "init 5s",
                id="initialized",
            ),
            pytest.param(
                record(1, start=0, init=5, end=50, result=Result.SUCCEEDED),
                [(Phase.INIT, 0, 5), (Phase.APP, 5, 50)],
                "init 5s, then Succeeded",
                id="succeeded",
            ),
            pytest.param(
                record(1, start=0, init=5, end=50, result=Result.LOST),
                [(Phase.INIT, 0, 5), (Phase.APP, 5, 50), (Phase.FAILED, 50, 50)],
                "init 5s, then Lost",
                id="lost after it was initialized",
            ),
            pytest.param(
                record(1, start=0, init=None, end=50, result=Result.LOST, reason="PodLost"),
                [(Phase.FAILED, 0, 50)],
                "Lost, PodLost",
                id="lost before",
            ),
            pytest.param(
                record(1, start=0, init=None, end=50, result=Result.SUPERSEDED),
                [(Phase.ENDED, 0, 50)],
                "Superseded",
                id="superseded",
            ),
            pytest.param(
                record(
                    1,
                    start=0,
                    init=None,
                    end=50,
                    result=Result.FAILED,
                    failed_step=FailedStep(
                        name="two", exit_code=137, reason="OOMKilled", restart_count=1
                    ),
                ),
                [(Phase.FAILED, 0, 50)],
                "Failed at two, exit 137 (OOMKilled)",
                id="failed at a step",
            ),
            pytest.param(
                record(1, start=9, init=5, end=50),
                [(Phase.INIT, 9, 9), (Phase.APP, 9, 50)],
                "init 0s",
                id="initialized before it started, by the node's clock",
            ),
            pytest.param(
                record(1, start=9, init=None, end=5, result=Result.UNKNOWN),
                [(Phase.ENDED, 9, 9)],
                "Unknown",
                id="ended before it started",
            ),
        ],
    )
    def test_run_that_has_ended_has_phases_and_result(
        self, ended: RunRecord, expected: list[Bar], words: str
    ) -> None:
        [row] = runs(ended)
        assert (bars(row), row.words) == (expected, words)

    def test_run_that_is_current_and_in_history_is_one_row(self) -> None:
        ended = record(1, start=0, init=5, end=50)
        run = current(init=5, completion_time=at(50), result=Result.INITIALIZED)
        assert len(runs(ended, run=run)) == 1


class TestSteps:
    def test_steps_in_sequence_have_their_times(self) -> None:
        shown = pod().init("one", exit=0, start=1, end=4).init("two", running=True, start=5)
        assert [
            (bars(row), row.words) for row in steps(current(), shown.init("three"), now=20)
        ] == [
            ([(Phase.DONE, 1, 4)], "succeeded in 3s"),
            ([(Phase.RUNNING, 5, 20)], "running for 15s"),
            ([], "to run"),
        ]

    def test_step_without_state_is_to_run(self) -> None:
        [row] = steps(current(), pod().init("one"))
        assert (bars(row), row.words) == ([], "to run")

    def test_step_without_image_has_the_reason(self) -> None:
        [row] = steps(current(), pod().init("one", waiting="ImagePullBackOff"))
        assert (bars(row), row.words) == ([], "to run: ImagePullBackOff")

    def test_step_that_runs_again_has_failure_and_back_off(self) -> None:
        failed = End(exit=1, start=2, end=6)
        [row] = steps(current(), pod().init("one", running=True, start=16, restarts=3, last=failed))
        assert bars(row) == [
            (Phase.FAILED, 2, 6),
            (Phase.WAITING, 6, 16),
            (Phase.RUNNING, 16, 100),
        ]
        assert row.words == "running for 1m24s, restarted 3 times"

    def test_step_in_back_off_has_failure_and_back_off(self) -> None:
        failed = End(exit=3, start=2, end=6)
        shown = pod().init("one", waiting="CrashLoopBackOff", restarts=1, last=failed)
        [row] = steps(current(), shown, now=9)
        assert bars(row) == [(Phase.FAILED, 2, 6), (Phase.WAITING, 6, 9)]
        assert row.words == "exit 3, backing off, restarted once"

    def test_step_that_failed_has_exit_code(self) -> None:
        [row] = steps(current(), pod().init("one", exit=2, start=2, end=6))
        assert (bars(row), row.words) == ([(Phase.FAILED, 2, 6)], "exit 2")

    def test_step_that_only_an_earlier_run_has_run_is_to_run(self) -> None:
        run = current(
            start=50, trigger=Trigger.POD_RESTARTED, stale_container_ids=(container_id("one"),)
        )
        [row] = steps(run, pod().init("one", exit=0, start=1, end=4))
        assert (bars(row), row.words) == ([], "to run")

    def test_previous_attempt_of_an_earlier_run_is_omitted(self) -> None:
        run = current(start=50, trigger=Trigger.POD_RESTARTED)
        old = End(start=1, end=4)
        [row] = steps(run, pod().init("one", exit=0, start=51, end=55, restarts=1, last=old))
        assert bars(row) == [(Phase.DONE, 51, 55)]

    @pytest.mark.parametrize(
        "more",
        [
            pytest.param({"stale_container_ids": ("containerd://pod-1-one-0",)}, id="by its ID"),
            pytest.param({"reason": "RestartingAllContainers"}, id="by its reason"),
        ],
    )
    def test_attempt_of_an_earlier_run_that_ended_in_this_one_is_omitted(
        self, more: dict[str, Any]
    ) -> None:
        old = End(start=41, end=52, reason=more.pop("reason", None))
        run = current(start=50, trigger=Trigger.RESTARTED_IN_PLACE, **more)
        [row] = steps(run, pod().init("one", exit=0, start=53, end=55, restarts=1, last=old))
        assert bars(row) == [(Phase.DONE, 53, 55)]

    def test_restarts_of_earlier_runs_are_not_counted(self) -> None:
        run = current(init_restart_baselines=({"name": "one", "restart_count": 4},))
        [row] = steps(run, pod().init("one", exit=0, start=1, end=4, restarts=5))
        assert row.words == "succeeded in 3s, restarted once"

    def test_step_of_node_with_slow_clock_keeps_its_times(self) -> None:
        [row] = steps(current(start=30), pod().init("one", exit=0, start=10, end=15))
        assert bars(row) == [(Phase.DONE, 10, 15)]

    def test_step_that_finished_before_it_started_has_no_length(self) -> None:
        [row] = steps(current(), pod().init("one", exit=0, start=15, end=10))
        assert bars(row) == [(Phase.DONE, 15, 15)]

    def test_running_sidecar_ends_with_the_axis(self) -> None:
        built = pipeline().inits({"name": "proxy", "restartPolicy": "Always"}, "one")
        shown = pod().init("proxy", running=True, start=1).init("one", exit=0, start=2, end=9)
        run = current(
            init=9,
            completed_init_containers=(
                CompletedInitContainer(name="one", container_id=container_id("one")),
            ),
        )
        statuses = tuple(shown.raw()["status"]["initContainerStatuses"])
        status = Status(run=run, init_container_statuses=statuses)
        section = chart(built.with_status(status).build(), at(9999)).sections[1]
        assert section.rows[0].label == "proxy (sidecar)"
        assert bars(section.rows[0]) == [(Phase.RUNNING, 1, 9)]
        assert section.end == at(9)


class TestAxes:
    @pytest.mark.parametrize(
        ("section", "span"),
        [
            pytest.param(0, (0, 100), id="runs: from the first to now"),
            pytest.param(1, (40, 100), id="steps: from the start of the run to now"),
        ],
    )
    def test_axis_covers_the_runs_or_the_current_run(
        self, section: int, span: tuple[float, float]
    ) -> None:
        shown = pod().init("one", exit=0, start=45, end=50)
        status = Status(
            run=current(number=2, start=40),
            history=(record(1, start=0, init=5, end=30),),
            init_container_statuses=tuple(shown.raw()["status"]["initContainerStatuses"]),
        )
        made = drawn(status).sections[section]
        assert (made.start, made.end) == (at(span[0]), at(span[1]))

    def test_axis_starts_with_a_step_before_its_run(self) -> None:
        shown = pod().init("one", exit=0, start=10, end=15)
        statuses = tuple(shown.raw()["status"]["initContainerStatuses"])
        status = Status(run=current(start=30), init_container_statuses=statuses)
        assert drawn(status).sections[1].start == at(10)

    @pytest.mark.parametrize("section", [0, 1])
    def test_axis_of_a_new_run_has_a_length(self, section: int) -> None:
        statuses = tuple(pod().init("one").raw()["status"]["initContainerStatuses"])
        made = drawn(Status(run=current(), init_container_statuses=statuses), now=0)
        assert made.sections[section].end > made.sections[section].start


class TestNotes:
    def test_notes_without_status_report_no_run(self) -> None:
        made = drawn(Status())
        assert (made.sections, made.notes) == ((), ("no run has started yet",))

    @pytest.mark.parametrize(
        ("first", "words"),
        [(1, ""), (2, "run 1 is no longer kept"), (8, "runs 1 to 7 are no longer kept")],
    )
    def test_notes_report_runs_that_history_has_dropped(self, first: int, words: str) -> None:
        notes = drawn(Status(history=(record(first, start=0, init=5, end=9),))).notes
        assert "".join(notes).startswith(words)
        assert bool(notes) is bool(words)

    @pytest.mark.parametrize(("second", "noted"), [(110, True), (90, False)])
    def test_notes_have_the_next_run_if_it_is_in_the_future(
        self, second: float, noted: bool
    ) -> None:
        status = Status(run=current(), next_run_time=at(second))
        assert ("the next run starts at 12:01:50Z, in 10s" in drawn(status).notes) is noted


def test_unused_phases_are_omitted() -> None:
    status = Status(run=current(init=5))
    assert drawn(status).phases == (Phase.INIT, Phase.APP)


def test_data_has_segments_with_times() -> None:
    data = drawn(Status(run=current(init=8))).data()
    [section] = data["sections"]
    assert section["rows"][0]["segments"][0] == {
        "phase": "init containers",
        "startTime": "2030-01-01T12:00:00Z",
        "endTime": "2030-01-01T12:00:08Z",
    }


def test_empty_sections_are_omitted() -> None:
    assert [section.title for section in drawn(Status(run=current())).sections] == ["Runs"]
