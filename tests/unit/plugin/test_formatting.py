"""Tests the formats of times, exit codes and causes, and the colours of reasons."""

from datetime import timedelta

import pytest

from initpipeline.api.models import Cause
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.views import styles
from tests.builders import at


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        pytest.param(-3, "0s", id="clocks differ"),
        pytest.param(0.9, "0s", id="under a second"),
        pytest.param(59.9, "59s", id="fractions are omitted"),
        pytest.param(59, "59s", id="seconds"),
        pytest.param(200, "3m20s", id="minutes and seconds"),
        pytest.param(7500, "2h5m", id="hours and minutes"),
        pytest.param(3601, "1h", id="small rest is omitted"),
        pytest.param(4 * 86400 + 3 * 3600, "4d3h", id="days and hours"),
    ],
)
def test_span_has_at_most_two_units(seconds: float, shown: str) -> None:
    assert formatting.span(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        pytest.param(65, "12:01:05Z, in 1m5s", id="to come"),
        pytest.param(-5, "11:59:55Z, which has passed", id="over"),
        pytest.param(86400, "2030-01-02 12:00:00Z, in 1d", id="another day"),
    ],
)
def test_moment_has_time_and_duration(seconds: float, shown: str) -> None:
    assert Moment(at(seconds), Mode.UNTIL).text(at(0)) == shown


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        (Mode.AGO, ["5s ago", "5s ago", "0s ago", "0s ago"]),
        (Mode.FOR, ["5s", "5s", "0s", "0s"]),
        (
            Mode.UNTIL,
            [
                *("11:59:55Z, which has passed", "11:59:55Z, which has passed"),
                *("12:00:03Z, in 3s", "12:00:03Z, in 3s"),
            ],
        ),
        (
            Mode.ABOUT,
            [*("any moment now",) * 2, *("at about 12:00:03Z, in 3s",) * 2],
        ),
    ],
)
def test_moments_change_at_whole_seconds_only(mode: Mode, shown: list[str]) -> None:
    found = [Moment(at(time), mode).text(at(now)) for time in (-5, 3) for now in (0, 0.9)]
    assert found == shown


def test_line_has_the_text_of_its_time_and_the_parts_of_its_lines() -> None:
    since = Moment(at(0), Mode.FOR)
    inner = Line(at(8), "for ", since)
    line = inner.after("running ")
    assert (line, inner) == ("running for 8s", "for 8s")
    assert line.parts == ("running ", "for ", since)


@pytest.mark.parametrize(
    ("code", "signal", "reason", "shown"),
    [
        pytest.param(3, None, "Error", "exit 3", id="reason Error adds nothing"),
        pytest.param(137, None, "OOMKilled", "exit 137 (OOMKilled)", id="other reason"),
        pytest.param(137, 9, "Error", "signal 9", id="signal"),
        pytest.param(None, None, "ImagePullBackOff", "ImagePullBackOff", id="never started"),
        pytest.param(None, None, None, "", id="nothing is known"),
    ],
)
def test_exit_text_has_code_or_signal_and_reason(
    code: int | None, signal: int | None, reason: str | None, shown: str
) -> None:
    assert formatting.exit_text(code, signal, reason) == shown


@pytest.mark.parametrize(
    ("paths", "count", "shown"),
    [
        (("spec.a",), 1, "spec.a changed"),
        (("spec.a", "spec.b", "spec.c"), 3, "spec.a, spec.b, spec.c changed"),
        (("spec.a", "spec.b", "spec.c"), 7, "spec.a, spec.b, spec.c and 4 more changed"),
    ],
)
def test_cause_text_changed_template_has_fields(
    paths: tuple[str, ...], count: int, shown: str
) -> None:
    cause = Cause(changed_paths=paths, changed_path_count=count)
    assert formatting.cause_text(cause) == shown


def test_cause_text_without_details_has_container() -> None:
    assert formatting.cause_text(Cause(container="app")) == "container app"


@pytest.mark.parametrize(
    ("reason", "tone"),
    [("PodReady", "green"), ("StepRunning", "yellow"), ("StepFailed", "red"), ("", "yellow")],
)
def test_of_reason_returns_colour(reason: str, tone: str) -> None:
    assert styles.of_reason(reason) == tone
