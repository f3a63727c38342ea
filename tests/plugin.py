"""Runs the kubectl plugin in the test's process."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from initpipeline.plugin import main


class PluginResult(NamedTuple):
    """The exit code and the output of a command. Its output is not a terminal, as in a script."""

    code: int
    out: str
    err: str


Call = Callable[..., PluginResult]
"""Calls the plugin with these arguments."""


def run_plugin(capsys: pytest.CaptureFixture[str], *arguments: str) -> PluginResult:
    """Run ``kubectl initpipeline`` with these arguments."""
    capsys.readouterr()
    code = main.main(arguments)
    return PluginResult(code, *capsys.readouterr())
