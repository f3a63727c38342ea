"""A plot of the ratios to the Job controller, as SVG.

A few shapes on a logarithmic axis need no library. matplotlib is a large dependency. pygal starts
the bars of a logarithmic axis at its minimum instead of at 1, draws no ranges, and its output does
not follow the reader's dark mode.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from tests.bench import tables
from tests.bench.figures import FIGURES
from tests.bench.measurement import Measurement
from tests.bench.stats import Spread
from tests.bench.workloads import JOB

KEYS: Final = (
    "pod_p50_ms",
    "pod_p99_ms",
    "finished_lag_p99_ms",
    "controller_cpu_ms",
    "api_server_cpu_ms",
    "controller_mib",
)
LEFT: Final = 300
"""The width of the labels in pixels."""
WIDTH: Final = 560
"""The width of the axis in pixels."""
MARGIN: Final = 40
ROW: Final = 24
APART: Final = 5
"""The vertical distance of the workloads in a row, so that equal values do not hide each other."""
TICKS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
SHAPES: Final = (
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="s0"/>',
    '<path d="M{x:.1f} {y:.1f}m0 -5l5 5l-5 5l-5 -5z" class="s1"/>',
    '<path d="M{x:.1f} {y:.1f}m0 -5l5 8h-10z" class="s2"/>',
)
STYLE: Final = """\
text { font: 13px sans-serif; fill: #1f2328 } .head { font-weight: bold } .end { text-anchor: end }
.mid { text-anchor: middle } .grid { stroke: #d0d7de } .one { stroke: #1f2328; stroke-width: 2 }
.s0, .s1, .s2 { stroke-width: 2 }
.s0 { fill: #0969da; stroke: #0969da } .s1 { fill: #bc4c00; stroke: #bc4c00 }
.s2 { fill: #1a7f37; stroke: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .grid { stroke: #30363d } .one { stroke: #e6edf3 }
  .s0 { fill: #4493f8; stroke: #4493f8 } .s1 { fill: #f0883e; stroke: #f0883e }
  .s2 { fill: #3fb950; stroke: #3fb950 }
}"""

Row = tuple[str, Sequence[tuple[str, Spread]]]
"""A label, and the ratio of each workload to Job. A heading has no ratios."""


def ratio_rows(measurements: Sequence[Measurement]) -> Iterator[Row]:
    """Yield the rows of the plot: for each case a heading and its figures."""
    titles = {figure.key: figure for figure in FIGURES}
    for case in tables.cases(measurements):
        measured = tables.sides(measurements, case)
        jobs = measured.pop(JOB.name, [])
        rows = []
        for figure in (titles[key] for key in KEYS):
            ratios = {
                name: tables.ratios(tables.values(figure, one), tables.values(figure, jobs))
                for name, one in measured.items()
            }
            found = [(name, Spread.of(values)) for name, values in ratios.items() if values]
            if found:
                rows.append((figure.title, found))
        if rows:
            yield case.title, ()
            yield from rows


def svg(rows: Sequence[Row]) -> str:
    """Return the document. The axis includes 1 and all ranges."""
    names = list(dict.fromkeys(name for _, ratios in rows for name, _ in ratios))
    spreads = [spread for _, ratios in rows for _, spread in ratios]
    low = max([tick for tick in TICKS if tick < min([0.9, *(s.low for s in spreads)])] or TICKS[:1])
    high = min([t for t in TICKS if t > max([1.1, *(s.high for s in spreads)])] or TICKS[-1:])

    def x(ratio: float) -> float:
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return LEFT + share * WIDTH

    top, bottom = 2 * MARGIN, 2 * MARGIN + ROW * len(rows)
    parts = [f'<text x="0" y="20" class="head">{escape(_TITLE)}</text>']
    for number, (name, shape) in enumerate(zip(names, SHAPES, strict=False)):
        at = LEFT + number * 170
        parts.append(shape.format(x=at, y=45) + f'<text x="{at + 12}" y="50">{escape(name)}</text>')
    for tick in (tick for tick in TICKS if low <= tick <= high):
        kind = "one" if tick == 1 else "grid"
        parts.append(f'<path d="M{x(tick):.1f} {top}V{bottom}" class="{kind}"/>')
        label = f"{tick:g}" if tick != 1 else "1 (Job)"
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" class="mid">{label}</text>')
    for number, (title, ratios) in enumerate(rows):
        y = top + ROW * (number + 0.5)
        kind = "row" if ratios else "head"
        parts.append(f'<text x="0" y="{y + 4:.1f}" class="{kind}">{escape(title)}</text>')
        for name, spread in ratios:
            side = names.index(name)
            middle = y + APART * (side - 1)
            line = f'<path d="M{x(spread.low):.1f} {middle:.1f}H{x(spread.high):.1f}"'
            parts.append(f'{line} class="s{side}"/>')
            parts.append(SHAPES[side].format(x=x(spread.median), y=middle))
    size = f"{LEFT + WIDTH + MARGIN} {bottom + MARGIN}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">\n'
        f"<title>{escape(_TITLE)}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


_TITLE: Final = "Ratio to the Job controller in the same run: left of the line is less than Job"
