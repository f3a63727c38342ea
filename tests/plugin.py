"""Runs the kubectl plugin in the test's process."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from initpipeline.plugin import main


class PluginResult(NamedTuple):
    """The exit code and the output of a command. Its output is not a terminal, as in a script."""

    code: int
    out: str
    err: str


OTHER_WORDS: Final = {
    *("-", "(same)", "(current)"),
    *("RUN", "TRIGGER", "RESULT", "STARTED", "INIT", "LASTED", "STEP", "REASON", "MESSAGE"),
}
"""Heads of columns, and cells that the page has in another form."""

Call = Callable[..., PluginResult]
"""Calls the plugin with these arguments."""


def run_plugin(capsys: pytest.CaptureFixture[str], *arguments: str) -> PluginResult:
    """Run ``kubectl initpipeline`` with these arguments."""
    capsys.readouterr()
    code = main.main(arguments)
    return PluginResult(code, *capsys.readouterr())


def cells(view: str) -> set[str]:
    """Return the cells of a table or a tree, in one line each."""
    found = (cell for line in view.splitlines() for cell in re.split(r"[│├└─]+|\s{2,}", line))
    content = {" ".join(cell.split()).removeprefix("next: ") for cell in found}
    return {one for one in content if not one.startswith("namespace ")} - OTHER_WORDS
