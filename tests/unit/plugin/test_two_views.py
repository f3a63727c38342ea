"""The live page has what the terminal commands show about the same objects."""

import html
import re
from typing import Final

import pytest

from initpipeline.plugin.cluster.client import Kind
from initpipeline.plugin.dashboard import pages
from initpipeline.plugin.dashboard.live import Entry, Store, key_of
from initpipeline.plugin.report.chart import chart
from initpipeline.plugin.views import explain, history
from tests.builders import PodBuilder, at, fresh_pod
from tests.unit.core.simulation import SimulatedPipeline, started
from tests.unit.plugin.rendered import text
from tests.unit.plugin.test_explain import CASES, explained

TIME: Final = re.compile(r",? at (about )?[\d:]+Z|, in (\d+[dhms])+|,? ?<time[^>]*>[^<]*</time>")
"""A time in a sentence. On the page it is an element, which the browser makes relative."""
DURATION: Final = re.compile(r"(for )?(\d+[dhms])+( ago)?")
OTHER_WORDS: Final = {
    *("-", "(same)", "(current)", "namespace default"),
    *("RUN", "TRIGGER", "RESULT", "STARTED", "INIT", "LASTED", "STEP", "REASON", "MESSAGE"),
}
"""Heads of columns, and cells that the page has in another form."""


def plain_text(markup: str) -> str:
    """Returns what a user reads in HTML, without times."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", TIME.sub("", markup))).split())


def cells(view: str) -> set[str]:
    """Returns the cells of a view of the terminal that do not depend on the time."""
    found = (cell for line in view.splitlines() for cell in re.split(r"[│├└─]+|\s{2,}", line))
    content = (TIME.sub("", cell.strip().removeprefix("next: ")) for cell in found)
    return {cell for cell in content if cell and not DURATION.fullmatch(cell)} - OTHER_WORDS


@pytest.mark.parametrize("case", CASES)
def test_page_has_what_the_terminal_shows(case: str) -> None:
    _, state, pod, now = CASES[case]
    shown = plain_text(" ".join(_sections(state, pod, now).values()))
    report = explained(state, pod, now)
    built = pod.build() if pod else None
    rows = chart(report.pipeline, at(now), built).sections
    words = {row.words for section in rows for row in section.rows}
    expected = cells(text(explain.view(report, at(now), None)))
    expected |= cells(text(history.table(report.pipeline.status, at(now)))) | words
    missing = {cell for cell in expected if " ".join(cell.split()) not in shown}
    assert missing == set()


def test_page_refers_to_recorded_output_only_if_a_run_has_some() -> None:
    failing = fresh_pod().init("one", exit=3, message="no table")
    printed = started(failing).edited().reconcile(failing, 30)
    silent = started(fresh_pod()).edited().reconcile(fresh_pod(), 30)
    assert "Earlier runs" in _sections(printed, None, 40)["logs"]
    assert "Earlier runs" not in _sections(silent, None, 40)["logs"]


def test_superseded_run_on_the_page_is_not_in_progress() -> None:
    superseded = started(fresh_pod()).edited().reconcile(fresh_pod(), 30)
    shown = _sections(superseded, None, 40)["history"]
    assert '<span class="badge quiet">Superseded</span>' in shown
    assert "Initialized after" not in shown


def _sections(state: SimulatedPipeline, pod: PodBuilder | None, now: float) -> dict[str, str]:
    raw = state.pipeline.raw()
    store = Store(now=lambda: at(now))
    store.replace(Kind.PIPELINES, [Entry.read(raw)])
    store.replace(Kind.PODS, [pod.raw()] if pod else [])
    return dict(pages.sections(store, key_of(raw)))
