"""Reads table.md, and compares its rows with what was counted."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

PATH: Final = Path(__file__).parent / "table.md"

REQUESTS: Final = (
    "LIST Pods",
    "GET pipeline",
    "GET Pod",
    "POST Pod",
    "DELETE Pod",
    "PATCH status",
    "DELETE pipeline",
    "POST event",
    "PATCH event",
)
BYTES: Final = "bytes"
PIPELINES_READ: Final = "pipelines read"
PODS_READ: Final = "Pods read"
RECONCILES: Final = "reconciles"
DECISIONS: Final = "decisions"
COLUMNS: Final = (*REQUESTS, BYTES, PIPELINES_READ, PODS_READ, RECONCILES, DECISIONS)

LIFE_WIDTH: Final = 44

Row = Mapping[str, int]


def rows() -> dict[str, Row]:
    """Returns the expected numbers by life and column. Raises ValueError if a table has other
    columns, or if a life has two rows."""
    found: dict[str, Row] = {}
    for line in PATH.read_text().splitlines():
        life, *cells = _cells(line)
        if life == "life":
            if tuple(cells) != COLUMNS:
                raise ValueError(f"the columns of {PATH.name} are {cells}, not {COLUMNS}")
        elif life in found:
            raise ValueError(f"{PATH.name} has two rows {life!r}")
        elif life:
            found[life] = dict(zip(COLUMNS, map(int, cells), strict=True))
    return found


def rewritten(counted: Mapping[str, Row]) -> str:
    """Returns the text of the file with the numbers that were counted."""
    lines: list[str] = []
    for line in PATH.read_text().splitlines():
        life = _cells(line)[0]
        lines.append(_line(life, counted[life]) if life in counted else line)
    return "".join(f"{line}\n" for line in lines)


def difference(life: str, counted: Row, columns: Iterable[str] = COLUMNS) -> str:
    """Returns the numbers of the life side by side. "": the table has the same numbers in these
    columns, and nothing else was counted."""
    expected, names = rows()[life], list(dict.fromkeys((*columns, *counted)))
    if all(expected.get(name, 0) == counted.get(name, 0) for name in names):
        return ""
    lines = [f"the costs of {life!r} have changed", f"{'':15} {'table':>7} {'counted':>7}"]
    for name in names:
        was, now = expected.get(name, 0), counted.get(name, 0)
        change = f"{now - was:+d}" if now != was else ""
        lines.append(f"{name:15} {was:7} {now:7} {change:>7}".rstrip())
    return "\n".join(lines)


def _cells(line: str) -> list[str]:
    """Returns the cells of a row of a table. The first one is empty if the line is not a row."""
    if not line.startswith("| "):
        return [""]
    return [cell.strip() for cell in line.strip("|").split("|")]


def _line(life: str, row: Row) -> str:
    numbers = (f"{row.get(column, 0):{len(column)}}" for column in COLUMNS)
    return f"| {life:{LIFE_WIDTH}} | {' | '.join(numbers)} |"
