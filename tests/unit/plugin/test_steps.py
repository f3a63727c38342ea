"""Which of the steps are sidecars: the Pod's spec decides, not the template."""

import pytest

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.report.steps import sidecars, steps
from initpipeline.plugin.report.summary import short_forecast
from initpipeline.plugin.views.chart import chart
from tests.builders import PodBuilder, at, fresh_pod, pipeline, pod
from tests.unit.core.simulation import SimulatedPipeline, started


def injected() -> PodBuilder:
    """A mesh has put its sidecar before the steps."""
    return pod().sidecar("mesh", running=True).init("one", running=True).init("two").app("app")


def seen(found: PodBuilder) -> Pipeline:
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
def test_sidecars_are_those_of_the_pod(found: PodBuilder, read: bool, expected: set[str]) -> None:
    shown = seen(found)
    its = found.build() if read else None
    assert sidecars(shown, its) == expected
    assert {step.name for step in steps(shown, its) if step.sidecar} == expected


def test_sidecars_of_another_run_do_not_count() -> None:
    shown = pipeline().build()
    assert sidecars(shown, injected().of_run(7, "another").build()) == frozenset()


def test_upcoming_injected_sidecar_is_no_step_to_wait_for() -> None:
    found = injected()
    assert (
        short_forecast(seen(found), at(5), found.build())
        == "one, then two, then the app containers"
    )


def test_chart_injected_sidecar_is_labelled() -> None:
    found = injected()
    rows = chart(seen(found), at(5), found.build()).sections[1].rows
    assert [row.label for row in rows] == ["mesh (sidecar)", "one", "two"]
