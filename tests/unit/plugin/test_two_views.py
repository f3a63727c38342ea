"""The live page has what the terminal commands show about the same objects."""

import html
import re
from datetime import datetime
from typing import Final

import pytest

from initpipeline.api.times import parse_time
from initpipeline.plugin.cluster.client import Kind
from initpipeline.plugin.dashboard import pages
from initpipeline.plugin.dashboard.live import Entry, Store, key_of
from initpipeline.plugin.report.chart import chart
from initpipeline.plugin.report.formatting import Mode, Moment
from initpipeline.plugin.views import explain, history
from tests.builders import PodBuilder, at, fresh_pod, running_pod
from tests.plugin import cells
from tests.unit.core.simulation import SimulatedPipeline, started
from tests.unit.plugin.rendered import text
from tests.unit.plugin.test_explain import CASES, explained

MOMENT: Final = re.compile(
    r'<(?:time datetime|tspan data-time)="([^"]*)" data-mode="(\w+)">[^<]*</(?:time|tspan)>'
)
"""A time that the browser makes relative. tests/browser/test_page.py compares the texts."""


def plain_text(markup: str, now: datetime) -> str:
    """Returns what a user reads in HTML at this time."""

    def moment(found: re.Match[str]) -> str:
        time = parse_time(found[1])
        assert time is not None
        return Moment(time, Mode(found[2])).text(now)

    # An element within a line has no space around it.
    joined = re.sub(r"</?tspan>", "", MOMENT.sub(moment, markup))
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", joined)).split())


@pytest.mark.parametrize("case", CASES)
def test_page_has_what_the_terminal_shows(case: str) -> None:
    _, state, pod, now = CASES[case]
    shown = plain_text(" ".join(_sections(state, pod, now).values()), at(now))
    report = explained(state, pod, now)
    built = pod.build() if pod else None
    rows = chart(report.pipeline, at(now), built).sections
    words = {row.words for section in rows for row in section.rows}
    expected = cells(text(explain.view(report, None)))
    expected |= cells(text(history.table(report.pipeline.status, at(now)))) | words
    missing = {cell for cell in expected if " ".join(cell.split()) not in shown}
    assert missing == set()


def test_page_refers_to_recorded_output_only_if_a_run_has_some() -> None:
    failing = fresh_pod().init("one", exit=3, message="no table")
    printed = started(failing).edited().reconcile(failing, 30)
    silent = started(fresh_pod()).edited().reconcile(fresh_pod(), 30)
    assert "Earlier runs" in _sections(printed, None, 40)["logs"]
    assert "Earlier runs" not in _sections(silent, None, 40)["logs"]


def test_absent_operator_leaves_what_it_would_do_on_the_page() -> None:
    requested = started(running_pod()).token("again")
    shown = plain_text(_sections(requested, running_pod(), 60, 7)["next"], at(60))
    assert "As last reported: nothing, the Pod is Ready When the operator runs:" in shown
    assert 'the operator will delete the Pod "demo"' in shown


@pytest.mark.parametrize(
    ("pod", "tone"),
    [
        pytest.param(running_pod(), "good", id="initialized"),
        pytest.param(fresh_pod(), "busy", id="not initialized"),
    ],
)
def test_current_run_on_the_page_is_good_after_initialization(pod: PodBuilder, tone: str) -> None:
    shown = _sections(started(pod), pod, 40)["history"]
    assert f'<span class="badge {tone}">current</span>' in shown


def test_superseded_run_on_the_page_is_not_in_progress() -> None:
    superseded = started(fresh_pod()).edited().reconcile(fresh_pod(), 30)
    shown = _sections(superseded, None, 40)["history"]
    assert '<span class="badge quiet">Superseded</span>' in shown
    assert "Initialized after" not in shown


def _sections(
    state: SimulatedPipeline, pod: PodBuilder | None, now: float, overdue: float = 0
) -> dict[str, str]:
    raw = state.pipeline.raw()
    store = Store(now=lambda: at(now))
    store.replace(Kind.PIPELINES, [Entry.read(raw)])
    store.replace(Kind.PODS, [pod.raw()] if pod else [])
    return dict(pages.sections(store, key_of(raw), overdue))
