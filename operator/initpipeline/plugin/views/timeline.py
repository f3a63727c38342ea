"""Draws a chart as text. The characters have the same meaning as the colours."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from rich.text import Text

from initpipeline.plugin.report.chart import Chart, Phase, Row, Section
from initpipeline.plugin.views import styles
from initpipeline.plugin.views.axis import extents, marks

_STYLES: Final = {
    Phase.INIT: styles.BUSY,
    Phase.APP: styles.GOOD,
    Phase.DONE: styles.GOOD,
    Phase.RUNNING: styles.BUSY,
    Phase.FAILED: styles.BAD,
    Phase.WAITING: styles.QUIET,
    Phase.ENDED: styles.QUIET,
}
_BLOCKS: Final = {
    Phase.INIT: "▓",
    Phase.APP: "━",
    Phase.DONE: "█",
    Phase.RUNNING: "▒",
    Phase.FAILED: "x",
    Phase.WAITING: "·",
    Phase.ENDED: "░",
}
_ASCII: Final = {
    Phase.INIT: "=",
    Phase.APP: "-",
    Phase.DONE: "#",
    Phase.RUNNING: ">",
    Phase.FAILED: "x",
    Phase.WAITING: ".",
    Phase.ENDED: "~",
}

_GAP: Final = "  "
_MIN_BAR: Final = 10
_NARROW: Final = 60
"""Below this number of columns, the texts of the rows are omitted."""


def text(chart: Chart, width: int, *, blocks: bool = True) -> Text:
    """Returns the chart in ``width`` columns, with block characters or in ASCII."""
    glyphs = _BLOCKS if blocks else _ASCII
    lines = [Text(chart.title, "bold")]
    columns = _columns(chart, width)
    for section in chart.sections:
        lines += [Text(), Text(section.title, "bold")]
        lines += [_row(row, section, columns, glyphs) for row in section.rows]
        lines.append(_axis(section, columns))
    lines += [Text(), *_legend(chart, glyphs, width)] if chart.phases else []
    for line in lines:
        line.truncate(width, overflow="ellipsis" if blocks else "crop")
        line.rstrip()
    return Text("\n").join([*lines, *(Text(note) for note in chart.notes)])


def _columns(chart: Chart, width: int) -> tuple[int, int, int]:
    """Returns the widths of label, bar and text. If there is little room, the text is cut first."""
    rows = [row for section in chart.sections for row in section.rows]
    label = min(max((len(row.label) for row in rows), default=0), max(width * 3 // 10, 6))
    words = min(max((len(row.words) for row in rows), default=0), width * 2 // 5)
    words = words if width >= _NARROW else 0
    bar = width - label - len(_GAP) - (words + len(_GAP) if words else 0)
    return label, max(bar, _MIN_BAR), words


def _row(
    row: Row, section: Section, columns: tuple[int, int, int], glyphs: dict[Phase, str]
) -> Text:
    label, bar, words = columns
    line = Text(_fit(row.label, label) + _GAP)
    cells: list[Phase | None] = [None] * bar
    for segment, begin, end in extents(row.segments, section, bar, 1):
        cells[begin:end] = [segment.phase] * (end - begin)
    for phase, run in groupby(cells):
        length = len(list(run))
        line.append((glyphs[phase] if phase else " ") * length, _STYLES[phase] if phase else None)
    if words:
        line.append(_GAP + _fit(row.words, words))
    return line


def _axis(section: Section, columns: tuple[int, int, int]) -> Text:
    """Returns the labels of the axis in UTC. Each starts below its time."""
    label, bar, _ = columns
    line = ""
    for mark in marks(section, bar):
        begin = min(int(mark.at * bar), bar - len(mark.label) - 1)
        if begin >= len(line) + (1 if line else 0):
            line = line.ljust(begin) + f"|{mark.label}"
    return Text(" " * label + _GAP + line, styles.QUIET)


def _legend(chart: Chart, glyphs: dict[Phase, str], width: int) -> Iterator[Text]:
    """Yields the legend in as many lines as it needs."""
    line = Text()
    signs = [(glyphs[phase], _STYLES[phase], f" {phase.value}") for phase in chart.phases]
    for sign, style, meaning in [*signs, ("", "", "times are UTC")]:
        part = Text.assemble((sign, style), meaning)
        if line and len(line) + len(_GAP) + len(part) > width:
            yield line
            line = Text()
        line = line + _GAP + part if line else part
    yield line


def _fit(text: str, width: int) -> str:
    """Returns the text padded or cut to the width."""
    return text.ljust(width) if len(text) <= width else text[: max(width - 2, 0)] + ".."
