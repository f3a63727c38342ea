"""Tests which steps are sidecars: the Pod's spec decides, not the template."""

import pytest

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.report.chart import chart
from initpipeline.plugin.report.steps import State, sidecars, steps
from initpipeline.plugin.report.summary import short_forecast
from tests.builders import PodBuilder, at, fresh_pod, pipeline, pod
from tests.unit.core.simulation import SimulatedPipeline, started


def injected() -> PodBuilder:
    """Returns a Pod in which admission has injected a sidecar before the steps."""
    return pod().sidecar("mesh", running=True).init("one", running=True).init("two").app("app")


def observed(found: PodBuilder) -> Pipeline:
    state: SimulatedPipeline = started(found)
    return state.pipeline.build()


@pytest.mark.parametrize(
    ("found", "read", "expected"),
    [
        pytest.param(injected(), True, {"mesh"}, id="injected"),
        pytest.param(injected(), False, {"mesh"}, id="injected, and the Pod is gone"),
        pytest.param(fresh_pod().init("one", running=True), True, set(), id="a step that runs"),
        pytest.param(
            pod().init("extra", running=True).init("one").init("two").app("app"),
            False,
            set(),
            id="injected step that runs",
        ),
    ],
)
def test_spec_of_the_pod_determines_the_sidecars(
    found: PodBuilder, read: bool, expected: set[str]
) -> None:
    reported = observed(found)
    its = found.build() if read else None
    assert sidecars(reported, its) == expected
    assert {step.name for step in steps(reported, its) if step.sidecar} == expected


def suspended(found: PodBuilder) -> Pipeline:
    """Returns the pipeline after it was suspended in this state."""
    state = started(found).policy(suspend=True).reconcile(found, 5)
    return state.reconcile(None, 6).pipeline.build()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            fresh_pod().init("one", exit=0).init("two", running=True),
            [("one", State.DONE, "succeeded"), ("two", State.STOPPED, "stopped")],
            id="running step",
        ),
        pytest.param(
            fresh_pod().init("one", exit=3, message="locked").init("two"),
            [("one", State.FAILED, "exit 3"), ("two", State.TO_RUN, "to run")],
            id="failed step",
        ),
    ],
)
def test_steps_of_a_suspended_run_keep_their_end(
    found: PodBuilder, expected: list[tuple[str, State, str]]
) -> None:
    reported = suspended(found)
    words = [row.words for row in chart(reported, at(9)).sections[1].rows]
    shown = [(one.name, one.state) for one in steps(reported)]
    assert [(*one, text) for one, text in zip(shown, words, strict=True)] == expected


def test_sidecars_of_another_run_are_ignored() -> None:
    reported = pipeline().build()
    assert sidecars(reported, injected().of_run(7, "another").build()) == frozenset()


def test_short_forecast_injected_sidecar_is_omitted() -> None:
    found = injected()
    assert (
        short_forecast(observed(found), at(5), found.build())
        == "one, then two, then the app containers"
    )


def test_chart_injected_sidecar_is_labelled() -> None:
    found = injected()
    rows = chart(observed(found), at(5), found.build()).sections[1].rows
    assert [row.label for row in rows] == ["mesh (sidecar)", "one", "two"]
