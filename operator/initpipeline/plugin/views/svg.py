"""Draws a chart as a self-contained SVG file, for light and dark pages and for print.

The meaning does not depend on colour: failures are hatched, back-offs are dashed, each bar has a
tooltip, and the description has all of it as text.
"""

from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree as Xml

from initpipeline.api.models import format_time
from initpipeline.core.text import plain
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.chart import Chart, Phase, Row, Section, Segment
from initpipeline.plugin.report.formatting import Moment, parts_of
from initpipeline.plugin.views.axis import extents, marks

_CLASSES: Final = {phase: phase.name.lower() for phase in Phase}
_WIDTH, _LABEL, _BAR, _MARGIN = 1080, 190, 520, 16
_TITLE, _ROW, _HEIGHT, _HEAD = 36, 24, 14, 34
_SHORTEST: Final = 3.0
_LABEL_CHARACTERS, _WORD_CHARACTERS, _AXIS_CHARACTERS = 27, 50, 75

STYLE: Final = """
.runs text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.runs .title { font-size: 16px; font-weight: 600; }
.runs .section { font-weight: 600; }
.runs .mark, .runs .note { fill: #59636e; font-size: 11px; }
.runs .page { fill: #ffffff; }
.runs .grid { stroke: #d1d9e0; }
.runs .init { fill: #bf8700; }
.runs .app { fill: #2da44e; fill-opacity: .45; }
.runs .done { fill: #1a7f37; }
.runs .running { fill: #0969da; }
.runs .failed { fill: url(#runs-failed); stroke: #cf222e; }
.runs .hatch { stroke: #cf222e; stroke-width: 3; }
.runs .waiting { fill: none; stroke: #59636e; stroke-dasharray: 3 2; }
.runs .ended { fill: #818b98; }
@media (prefers-color-scheme: dark) {
  .runs text { fill: #f0f6fc; }
  .runs .mark, .runs .note { fill: #9198a1; }
  .runs .page { fill: #0d1117; }
  .runs .grid { stroke: #3d444d; }
  .runs .init { fill: #d29922; }
  .runs .app { fill: #3fb950; }
  .runs .done { fill: #3fb950; }
  .runs .running { fill: #4493f8; }
  .runs .failed { stroke: #f85149; }
  .runs .hatch { stroke: #f85149; }
  .runs .waiting { stroke: #9198a1; }
}
"""
"""The stylesheet of the drawing."""


def svg(chart: Chart, *, live: bool = False) -> str:
    """Returns the SVG document.

    ``live``: it is a part of the live page, which has the title and STYLE. Moments are elements
    that the page updates.
    """
    head = 0 if live else _TITLE
    height = head + _height(chart)
    root = Xml.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "runs-title runs-description",
            "class": "runs",
        },
    )
    _child(root, "title", f"Timeline of {chart.title}", id="runs-title")
    _child(root, "desc", _description(chart), id="runs-description")
    if not live:
        _child(root, "style", STYLE)
    _hatching(root)
    _child(root, "rect", None, **{"class": "page", "width": "100%", "height": "100%"})
    if not live:
        _text(root, f"Timeline of {chart.title}", _MARGIN, 28, "title")
    top = float(head)
    for section in chart.sections:
        top = _section(root, section, top, live)
    _foot(root, chart, top + _HEAD, live)
    if not live:
        Xml.indent(root)
    return Xml.tostring(root, encoding="unicode") + "\n"


def _height(chart: Chart) -> int:
    rows = sum(_HEAD + _ROW * (len(section.rows) + 1) for section in chart.sections)
    return rows + _HEAD + 18 * (len(chart.notes) + 1)


def _description(chart: Chart) -> str:
    sections = [
        f"{section.title}: " + "; ".join(f"{row.label}: {row.words}" for row in section.rows)
        for section in chart.sections
    ]
    return ". ".join([*sections, *chart.notes]) + "."


def _hatching(root: Xml.Element) -> None:
    pattern = _child(
        _child(root, "defs"),
        "pattern",
        None,
        id="runs-failed",
        width="6",
        height="6",
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    _child(pattern, "path", None, d="M 0 0 V 6", **{"class": "hatch"})


def _section(root: Xml.Element, section: Section, top: float, live: bool) -> float:
    """Draws the section below ``top`` and returns the position of its bottom."""
    _text(root, section.title, _MARGIN, top + 24, "section")
    first = top + _HEAD
    bottom = first + _ROW * len(section.rows)
    _grid(root, section, first, bottom)
    for number, row in enumerate(section.rows):
        _row(root, row, section, first + number * _ROW, live)
    return bottom + _ROW


def _grid(root: Xml.Element, section: Section, top: float, bottom: float) -> None:
    for mark in marks(section, _AXIS_CHARACTERS):
        x = _LABEL + mark.at * _BAR
        path = f"M {x:.1f} {top:.1f} V {bottom:.1f}"
        _child(root, "path", None, d=path, **{"class": "grid"})
        _text(root, mark.label, x, bottom + 14, "mark", anchor="middle")


def _row(root: Xml.Element, row: Row, section: Section, top: float, live: bool) -> None:
    base = top + _HEIGHT + 2
    _text(root, row.label, _MARGIN, base, "label", most=_LABEL_CHARACTERS)
    for segment, begin, end in extents(row.segments, section, float(_BAR), _SHORTEST):
        bar = _child(
            root,
            "rect",
            None,
            x=f"{_LABEL + begin:.1f}",
            y=f"{top + 5:.1f}",
            width=f"{end - begin:.1f}",
            height=str(_HEIGHT),
            **{"class": _CLASSES[segment.phase]},
        )
        _child(bar, "title", _tooltip(row, segment, live))
    x = _LABEL + _BAR + _MARGIN
    _text(root, row.words, x, base, "message", most=_WORD_CHARACTERS, live=live)


def _tooltip(row: Row, segment: Segment, live: bool) -> str:
    if live and segment.open:
        return f"{row.label}, {segment.phase} since {format_time(segment.start)}"
    times = f"{format_time(segment.start)} to {format_time(segment.end)}"
    return f"{row.label}, {segment.phase}: {formatting.span(segment.end - segment.start)}, {times}"


def _foot(root: Xml.Element, chart: Chart, top: float, live: bool) -> None:
    """Draws the legend and the notes."""
    x = float(_MARGIN)
    for phase in chart.phases:
        size = {"x": f"{x:.1f}", "y": f"{top - 11:.1f}", "width": "12", "height": "12"}
        _child(root, "rect", None, **size, **{"class": _CLASSES[phase]})
        _text(root, phase.value, x + 18, top, "note")
        x += 40 + 6.5 * len(phase.value)
    _text(root, "times are UTC", x, top, "note")
    for number, note in enumerate(chart.notes, start=1):
        _text(root, note, _MARGIN, top + 18 * number, "note", live=live)


def _text(
    root: Xml.Element,
    content: str,
    x: float,
    y: float,
    class_: str,
    *,
    anchor: str = "start",
    most: int | None = None,
    live: bool = False,
) -> None:
    """Draws at most ``most`` characters of a line. If the line is cut, its tooltip is complete.
    ``live``: as in ``svg``. The tooltip of a line with moments has their absolute times."""
    cut = most is not None and len(content) > most
    visible = f"{content[: (most or 0) - 1]}\N{HORIZONTAL ELLIPSIS}" if cut else content
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": class_}
    element = _child(root, "text", None if live else visible, **place)
    parts = parts_of(content) if live and not cut else (visible,)
    if live:
        _live_parts(element, parts)
    times = [format_time(part.time) for part in parts if isinstance(part, Moment)]
    if cut or times:
        _child(element, "title", content if cut else ", ".join(times))


def _live_parts(element: Xml.Element, parts: Iterable[str | Moment]) -> None:
    """Adds the parts of a line. A moment is an element that the page updates."""
    for one in parts:
        if isinstance(one, str):
            _child(element, "tspan", one)
        else:
            time = format_time(one.time)
            _child(element, "tspan", time, **{"data-time": time, "data-mode": one.mode})


def _child(
    parent: Xml.Element, tag: str, text: str | None = None, **attributes: str
) -> Xml.Element:
    child = Xml.SubElement(parent, tag, attributes)
    child.text = None if text is None else plain(text)
    return child
