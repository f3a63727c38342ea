"""A picture of the dashboard as SVG: its panels, with what Prometheus returns for their queries.

It shows what the panels have, not how Grafana draws them: no package registry that the tests
use has Grafana. A plotting library would be a large dependency for lines and rectangles.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from tests.monitoring.dashboard import Query, dashboard

COLUMN: Final = 50
"""The width of one of 24 columns in pixels."""
ROW: Final = 24
GAP: Final = 6
COLORS: Final = (
    "#7eb26d",
    "#eab839",
    "#6ed0e0",
    "#ef843c",
    "#e24d42",
    "#1f78c1",
    "#ba43a9",
    "#705da0",
)
LEGEND: Final = 6
"""The number of series that the legend names."""
STYLE: Final = (
    "text { font: 11px sans-serif; fill: #d8d9da } .title { font-weight: bold; font-size: 12px } "
    ".row { font-size: 14px; font-weight: bold } .big { font-size: 32px; text-anchor: middle } "
    ".end { text-anchor: end } .mid { text-anchor: middle } .back { fill: #111217 } "
    ".panel { fill: #181b1f; stroke: #2c3235 } .grid { stroke: #2c3235 } "
    ".line { fill: none; stroke-width: 1.5 }"
)
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
_BYTES: Final = ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B"))
_SECONDS: Final = ((3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"))
_UNITS: Final = {"reqps": "/s", "ops": "/s", "cpm": "/min"}

Samples = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A series with its legend."""

    legend: str
    samples: Samples


def lines(query: Query, matrix: Sequence[Any]) -> list[Line]:
    """Returns the series of a query. Values that are not numbers are left out."""
    return [
        Line(legend(query.legend, one["metric"]), numbers)
        for one in matrix
        if (numbers := [(t, float(v)) for t, v in one["values"] if math.isfinite(float(v))])
    ]


def legend(text: str, labels: Mapping[str, str]) -> str:
    """Returns the legend of a series: its format with the values of the labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text).strip()


def shown(value: float, unit: str) -> str:
    """Returns a value with its unit."""
    scales = {"bytes": _BYTES, "s": _SECONDS}.get(unit, _PREFIXES)
    size, name = next((s for s in scales if abs(value) >= s[0]), scales[-1])
    return (
        f"{value / size:.3g}{name}{_UNITS.get(unit, '')}" if value else f"0{_UNITS.get(unit, '')}"
    )


def svg(found: Mapping[int, Sequence[Line]], start: float, end: float) -> str:
    """Returns the picture. ``found`` has the series of each panel, by its id."""
    everything = dashboard()["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in everything)
    size = f"0 0 {24 * COLUMN} {bottom * ROW}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img">',
        f"<title>{escape(dashboard()['title'])}</title><style>{STYLE}</style>",
        f'<rect class="back" width="{24 * COLUMN}" height="{bottom * ROW}"/>',
    ]
    for panel in everything:
        place = panel["gridPos"]
        parts.append(f'<g transform="translate({place["x"] * COLUMN} {place["y"] * ROW})">')
        if panel["type"] == "row":
            parts.append(f'<text x="8" y="17" class="row">{escape(panel["title"])}</text>')
        else:
            box = _Box(panel, place["w"] * COLUMN - GAP, place["h"] * ROW - GAP, start, end)
            parts += box.drawn(found.get(panel["id"], ()))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


@dataclass(frozen=True)
class _Box:
    """One panel, and the times at its left and right edge."""

    panel: Mapping[str, Any]
    width: int
    height: int
    start: float
    end: float

    def drawn(self, found: Sequence[Line]) -> Iterator[str]:
        yield f'<rect class="panel" width="{self.width}" height="{self.height}" rx="2"/>'
        yield f'<text x="8" y="17" class="title">{escape(self.panel["title"])}</text>'
        draw = {"stat": self._stat, "state-timeline": self._states}
        if found:
            yield from draw.get(self.panel["type"], self._graph)(found)
        else:
            yield f'<text x="{self.width / 2}" y="{self.height / 2}" class="mid">No data</text>'

    @property
    def _unit(self) -> str:
        return str(self.panel["fieldConfig"]["defaults"]["unit"])

    def _x(self, time: float) -> float:
        return 58 + (self.width - 68) * (time - self.start) / (self.end - self.start)

    def _stat(self, found: Sequence[Line]) -> Iterator[str]:
        for line in found[:1]:
            text = shown(line.samples[-1][1], self._unit)
            yield f'<text x="{self.width / 2}" y="{self.height - 22}" class="big">{text}</text>'

    def _states(self, found: Sequence[Line]) -> Iterator[str]:
        tall = (self.height - 50) / max(len(found), 1)
        for number, line in enumerate(found):
            top = 28 + number * tall
            for (begin, value), (until, _) in zip(line.samples, line.samples[1:], strict=False):
                if value:
                    x, wide = self._x(begin), self._x(until) - self._x(begin) + 0.5
                    yield f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                    yield f'height="{tall - 4:.1f}" fill="{COLORS[0]}"/>'
            yield f'<text x="62" y="{top + tall / 2:.1f}">{escape(line.legend)}</text>'
        yield from self._axis()

    def _graph(self, found: Sequence[Line]) -> Iterator[str]:
        custom = self.panel["fieldConfig"]["defaults"]["custom"]
        stacked = custom["stacking"]["mode"] == "normal"
        drawn = _stacked(found) if stacked else found
        highest = max((v for line in drawn for _, v in line.samples), default=0) or 1
        base, tall = self.height - 52, self.height - 84

        def y(value: float) -> float:
            return base - tall * value / highest

        for share in (0, 0.5, 1):
            at = y(share * highest)
            yield f'<path class="grid" d="M58 {at:.1f}H{self.width - 10}"/>'
            label = shown(share * highest, self._unit)
            yield f'<text x="54" y="{at + 4:.1f}" class="end">{label}</text>'
        for number, line in reversed(list(enumerate(drawn))):
            color, path = COLORS[number % len(COLORS)], self._path(line.samples, y)
            if stacked:
                first, last = self._x(line.samples[0][0]), self._x(line.samples[-1][0])
                area = f"{path}L{last:.1f} {base}L{first:.1f} {base}z"
                yield f'<path d="{area}" fill="{color}" fill-opacity="0.5"/>'
            yield f'<path d="{path}" class="line" stroke="{color}"/>'
        for number, line in enumerate(drawn[:LEGEND]):
            wide = (self.width - 16) / 3
            x, at = 8 + number % 3 * wide, self.height - 20 + number // 3 * 14
            color = COLORS[number % len(COLORS)]
            yield f'<rect x="{x:.0f}" y="{at - 6}" width="8" height="3" fill="{color}"/>'
            text = line.legend if len(line.legend) < 22 else f"{line.legend[:20]}..."
            yield f'<text x="{x + 12:.0f}" y="{at}">{escape(text)}</text>'
        yield from self._axis()

    def _path(self, samples: Samples, y: Callable[[float], float]) -> str:
        points = [f"{self._x(time):.1f} {y(value):.1f}" for time, value in samples]
        return "M" + "L".join(points)

    def _axis(self) -> Iterator[str]:
        minutes = (self.end - self.start) / 60
        for share in (0, 0.5, 1):
            kind = ("", "mid", "end")[int(share * 2)]
            x = self._x(self.start + share * (self.end - self.start))
            text = f"{share * minutes:.0f} min"
            yield f'<text x="{x:.1f}" y="{self.height - 36}" class="{kind}">{text}</text>'


def _stacked(found: Sequence[Line]) -> list[Line]:
    """Returns the lines, each on top of those before it."""
    below: dict[float, float] = {}
    result = []
    for line in found:
        for time, value in line.samples:
            below[time] = below.get(time, 0.0) + value
        result.append(Line(line.legend, [(time, below[time]) for time, _ in line.samples]))
    return result
