"""Tests how a chart is drawn, as text and as SVG."""

from datetime import datetime
from typing import Final
from xml.etree import ElementTree as Xml

import pytest

from initpipeline.plugin.report.chart import Chart, Phase, Row, Section, Segment
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.views.axis import extents, marks
from initpipeline.plugin.views.svg import svg
from initpipeline.plugin.views.timeline import text
from tests.builders import at

NAMESPACE: Final = {"svg": "http://www.w3.org/2000/svg"}
DAY: Final = 86400


def segment(phase: Phase, start: float, end: float) -> Segment:
    return Segment(phase, at(start), at(end))


def section(*rows: Row, end: float = 100) -> Section:
    return Section("Runs", at(0), at(end), rows)


def row(*segments: Segment, label: str = "1 Created", words: str = "init 8s") -> Row:
    return Row(label, segments, words)


def drawing(*rows: Row, end: float = 100) -> Chart:
    return Chart("default/demo", (section(*rows, end=end),), ("a note",))


def lines(chart: Chart, width: int = 80, *, blocks: bool = False) -> list[str]:
    return text(chart, width, blocks=blocks).plain.splitlines()


EVERY_PHASE: Final = drawing(
    *(row(segment(phase, i * 10, i * 10 + 9), label=phase) for i, phase in enumerate(Phase))
)
HUNDRED: Final = drawing(
    *(row(segment(Phase.INIT, i * 60, i * 60 + 5), label=f"{i} Retry") for i in range(100)),
    end=6000,
)


class TestAxis:
    @pytest.mark.parametrize(
        ("seconds", "room", "labels"),
        [
            pytest.param(20, 40, ["12:00:00", "12:00:10", "12:00:20"], id="seconds"),
            pytest.param(3600, 30, ["12:00", "12:30", "13:00"], id="half hours"),
            pytest.param(4 * DAY, 24, ["02 Jan", "04 Jan"], id="days"),
            pytest.param(36 * 3600, 50, ["01 Jan 12:00", "02 Jan 00:00"], id="across a night"),
            pytest.param(800 * DAY, 60, ["17 Dec 2030", "17 Dec 2031"], id="years"),
            pytest.param(20, 1, ["12:00"], id="little room"),
        ],
    )
    def test_marks_are_round_times(self, seconds: int, room: int, labels: list[str]) -> None:
        shown = [mark.label for mark in marks(section(end=seconds), room)]
        assert shown[: len(labels)] == labels

    @pytest.mark.parametrize("seconds", [1, 7, 59, 61, 3599, 90000, 10 * DAY, 4000 * DAY])
    @pytest.mark.parametrize("room", [10, 33, 80, 200])
    def test_marks_have_room(self, seconds: int, room: int) -> None:
        shown = marks(section(end=seconds), room)
        assert 1 <= len(shown) <= 1 + room // 8
        assert all(0 <= mark.at <= 1 for mark in shown)
        assert list(shown) == sorted(shown, key=lambda mark: mark.at)

    def test_marks_between_seconds_are_round(self) -> None:
        odd = Section("Runs", at(0.5), at(1.9), ())
        assert [mark.label for mark in marks(odd, 20)] == ["12:00:01"]

    @pytest.mark.parametrize(
        ("segments", "places"),
        [
            pytest.param([(0, 50)], [(0, 5)], id="half"),
            pytest.param([(50, 100)], [(5, 10)], id="other half"),
            pytest.param([(0, 0)], [(0, 1)], id="too short to see"),
            pytest.param([(100, 100)], [(9, 10)], id="at the very end"),
            pytest.param([(0, 1), (1, 100)], [(0, 1), (1, 10)], id="makes room for what follows"),
            pytest.param([(0, 100), (100, 100)], [(0, 10), (9, 10)], id="covers the end of a bar"),
            pytest.param([(-50, 0), (150, 200)], [(0, 1), (9, 10)], id="outside"),
        ],
    )
    def test_extents_are_in_order_and_visible(
        self, segments: list[tuple[float, float]], places: list[tuple[int, int]]
    ) -> None:
        given = [segment(Phase.INIT, *times) for times in segments]
        assert [(b, e) for _, b, e in extents(given, section(), 10, 1)] == places


class TestText:
    def test_bars_have_the_positions_of_their_times(self) -> None:
        bar = row(segment(Phase.INIT, 0, 25), segment(Phase.APP, 25, 50))
        shown = lines(drawing(bar), 80)[3]
        assert shown.startswith("1 Created  ===")
        assert shown.count("=") == shown.count("-") == 60 // 4

    def test_axis_is_below_the_bars(self) -> None:
        shown = lines(drawing(row(segment(Phase.INIT, 0, 100))), 80)
        assert shown[4].startswith(" " * len("1 Created  ") + "|12:00:00")

    @pytest.mark.parametrize("end", range(1, 400, 7))
    def test_axis_labels_do_not_overlap(self, end: int) -> None:
        axis = lines(drawing(row(segment(Phase.INIT, 0, end)), end=end), 80)[4]
        assert all(len(label) in (5, 8) for label in axis.replace("|", "").split()), axis

    @pytest.mark.parametrize("blocks", [True, False])
    def test_phases_have_different_signs_in_the_legend(self, blocks: bool) -> None:
        shown = lines(EVERY_PHASE, 120, blocks=blocks)
        signs = {line.split()[-3 if "init 8s" in line else 0][0] for line in shown[3:10]}
        assert len(signs) == len(Phase)
        legend = " ".join(shown[12:])
        assert all(f"{sign} " in legend for sign in signs)
        assert all(phase.value in legend for phase in Phase)

    def test_text_without_blocks_is_ascii(self) -> None:
        assert "\n".join(lines(EVERY_PHASE, blocks=False)).isascii()

    @pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 133, 300])
    def test_text_fits_the_width(self, width: int) -> None:
        long = "a very long text about the state of this row in the chart"
        bars = [row(segment(Phase.APP, 0, 100), label="x" * 60, words=long)]
        shown = lines(drawing(*bars), width)
        assert max(len(line) for line in shown) <= width
        assert any("-" * 5 in line for line in shown), "the bar is visible"

    def test_label_that_is_cut_ends_with_dots(self) -> None:
        shown = lines(drawing(row(label="x" * 60)), 80)[3]
        assert "xx.." in shown

    def test_row_text_of_narrow_chart_is_omitted(self) -> None:
        bars = drawing(row(segment(Phase.APP, 0, 100)))
        assert "init 8s" in lines(bars, 60)[3]
        assert "init 8s" not in lines(bars, 59)[3]

    def test_text_of_hundred_runs_has_all(self) -> None:
        assert sum("Retry" in line and "=" in line for line in lines(HUNDRED)) == 100

    def test_short_failure_after_long_run_is_visible(self) -> None:
        month = 30 * DAY
        bars = row(segment(Phase.APP, 0, month), segment(Phase.FAILED, month, month))
        assert "-x " in lines(drawing(bars, end=month))[3]

    def test_text_has_colours_as_styles_only(self) -> None:
        assert "\x1b" not in text(EVERY_PHASE, 80).plain
        assert {str(span.style) for span in text(EVERY_PHASE, 80).spans} >= {"green", "red"}


class TestSvg:
    @pytest.fixture
    def root(self) -> Xml.Element:
        return Xml.fromstring(svg(EVERY_PHASE))

    def test_svg_has_title_and_description(self, root: Xml.Element) -> None:
        assert root.get("role") == "img"
        named = {element.get("id"): element.text or "" for element in root.iter()}
        title, description = (named[id_] for id_ in (root.get("aria-labelledby") or "").split())
        assert title == "Timeline of default/demo"
        assert "running: init 8s" in description
        assert description.endswith("a note.")

    def test_each_phase_has_a_style_for_light_and_for_dark(self, root: Xml.Element) -> None:
        style = root.findtext("svg:style", namespaces=NAMESPACE) or ""
        light, dark = style.split("@media")
        for phase in set(Phase) - {Phase.ENDED}:
            assert f".{phase.name.lower()} {{" in light, phase
            assert f".{phase.name.lower()} {{" in dark, phase

    def test_svg_has_no_external_references(self) -> None:
        drawn = svg(EVERY_PHASE).replace(NAMESPACE["svg"], "")
        assert "http" not in drawn
        assert "<script" not in drawn

    def test_svg_bars_have_tooltips_with_times(self, root: Xml.Element) -> None:
        tips = [tip.text for tip in root.findall(".//svg:rect/svg:title", NAMESPACE)]
        assert len(tips) == len(Phase)
        assert tips[0] == (
            "init containers, init containers: 9s, 2030-01-01T12:00:00Z to 2030-01-01T12:00:09Z"
        )

    def test_svg_texts_are_escaped(self) -> None:
        shown = svg(drawing(row(label="<a&b>", words='"</text><script>')))
        texts = [e.text for e in Xml.fromstring(shown).iter(f"{{{NAMESPACE['svg']}}}text")]
        assert "<a&b>" in texts
        assert '"</text><script>' in texts

    def test_svg_text_that_is_cut_is_complete_in_its_tooltip(self) -> None:
        shown = Xml.fromstring(svg(drawing(row(words="w" * 99))))
        [tip] = shown.findall(".//svg:text/svg:title", NAMESPACE)
        assert tip.text == "w" * 99

    def test_svg_moment_on_the_live_page_has_the_absolute_time_in_its_tooltip(self) -> None:
        words = Line(at(8), "running for ", Moment(at(0), Mode.FOR))
        shown = Xml.fromstring(svg(drawing(row(words=words)), live=True))
        [tip] = shown.findall(".//svg:text/svg:title", NAMESPACE)
        assert tip.text == "2030-01-01T12:00:00Z"

    @pytest.mark.parametrize("chart", [EVERY_PHASE, HUNDRED], ids=["seven", "a hundred"])
    def test_svg_elements_are_inside_of_the_image(self, chart: Chart) -> None:
        shown = Xml.fromstring(svg(chart))
        width, height = float(shown.get("width") or 0), float(shown.get("height") or 0)
        places = [(float(e.get("x", 0)), float(e.get("y", 0))) for e in shown.iter()]
        assert all(0 <= x < width and 0 <= y < height for x, y in places)

    def test_empty_chart_has_note(self) -> None:
        empty = Chart("default/demo", (), ("no run has started yet",))
        assert "no run has started yet" in svg(empty)
        assert text(empty, 80).plain == "default/demo\nno run has started yet"


def test_marks_in_another_timezone_are_utc() -> None:
    east = datetime.fromisoformat("2030-01-01T14:00:00+02:00")
    shown = marks(Section("Runs", east, at(10), ()), 60)
    assert shown[0].label == "12:00:00"
