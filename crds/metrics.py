"""Writes the table of docs/metrics.md from the registered metrics."""

import re
from pathlib import Path
from typing import Final

from initpipeline.runtime.metrics import described

PAGE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
_BLOCK: Final = re.compile(r"(<!-- generated -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """Returns the page with the table up to date."""
    rows = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    for name, kind, labels, text in described():
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{name}` | {kind} | {shown} | {text} |")
    table = "\n".join(rows)
    return _BLOCK.sub(lambda block: f"{block[1]}{table}\n{block[2]}", page)


def write() -> None:
    """Updates the table of the page."""
    PAGE.write_text(filled(PAGE.read_text()))
