"""Write the results to docs: the tables as Markdown, and the plot as SVG."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import plot, tables
from tests.bench.errors import BenchError
from tests.bench.result import Result
from tests.bench.tables import Table

DOCS: Final = Path(__file__).parents[2] / "docs"
BLOCK: Final = re.compile(r"(<!-- generated: results -->\n).*?(<!-- end -->)", re.DOTALL)


def publish(result: Result, docs: Path = DOCS) -> list[Path]:
    """Write the page and the plot, and return their paths.

    Raise BenchError if the page lacks the place for the tables.
    """
    page, picture = docs / "benchmarks.md", docs / "benchmarks.svg"
    page.write_text(filled(page.read_text(), result))
    picture.write_text(plot.svg(list(plot.ratio_rows(result.measurements))))
    return [page, picture]


def filled(page: str, result: Result) -> str:
    """Return the page with the tables of this result."""
    text, count = BLOCK.subn(lambda block: f"{block[1]}{_results(result)}{block[2]}", page)
    if count != 1:
        raise BenchError(f"the page has {count} places for the results instead of one")
    return text


def _results(result: Result) -> str:
    sentences = "\n".join(f"- {sentence}" for sentence in result.circumstances())
    parts = [f"{sentences}\n", *map(markdown, tables.of(result))]
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """Return the table with its heading."""
    first, *columns = table.header
    lines = [_line([first, *columns]), _line(["---", *("---:" for _ in columns)])]
    lines += [_line(cells) for cells in map(_cells, table.rows)]
    return f"### {table.title}\n\n" + "\n".join(lines) + "\n"


def _cells(row: tables.Row) -> Iterator[str]:
    title, *values = row
    # Markdown ignores the indentation of a part.
    yield title.replace("  ", "- ", 1) if title.startswith("  ") else title
    yield from values


def _line(cells: Iterator[str] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
