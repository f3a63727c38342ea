"""Print a result: with lines on a terminal, else in plain columns."""

from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from tests.bench import tables
from tests.bench.result import Result
from tests.bench.tables import Table

PLAIN_WIDTH: Final = 200


def show(result: Result) -> None:
    """Print the tables and the circumstances to standard output."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for table in tables.of(result):
        console.print(f"\n{table.title}", soft_wrap=True)
        console.print(_rich(table, console.is_terminal))
    for case in tables.cases(result.measurements):
        console.print(f"\n{case.title}", soft_wrap=True)
        for line in tables.requests(result.measurements, case):
            console.print(line, soft_wrap=True)
    console.print()
    for line in result.circumstances():
        console.print(line, soft_wrap=True)


def _rich(table: Table, lines: bool) -> RichTable:
    rich = RichTable(box=box.SIMPLE_HEAD if lines else None, pad_edge=False)
    first, *columns = table.header
    rich.add_column(first, no_wrap=True)
    for column in columns:
        rich.add_column(column, justify="right", no_wrap=True)
    for row in table.rows:
        rich.add_row(*row)
    return rich
