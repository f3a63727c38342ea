"""The transcripts in docs/plugin.md."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.transcripts.transcript import PROGRAM, Transcript

PAGE: Final = Path(__file__).parents[2] / "docs" / "plugin.md"
COMMAND: Final = re.compile(rf"^\$ ({PROGRAM}.*)$", re.MULTILINE)
END: Final = r"(?=^\n\$ |^```$)"
"""A transcript ends before the next command or at the end of its block."""


def commands(page: str) -> list[str]:
    """Returns the commands whose output the page shows, in order."""
    return COMMAND.findall(page)


def shown(page: str, command: str) -> str:
    """Returns the output that the page shows for a command. Raises ValueError if it shows none."""
    return _match(page, command)[2]


def write(transcripts: Sequence[Transcript]) -> None:
    """Writes the outputs into the page. Raises ValueError for a command that it does not show."""
    page = PAGE.read_text()
    for transcript in transcripts:
        match = _match(page, transcript.command)
        page = page[: match.start(2)] + transcript.output() + page[match.end(2) :]
    PAGE.write_text(page)


def _match(page: str, command: str) -> re.Match[str]:
    pattern = rf"^(\$ {re.escape(command)}\n)(.*?){END}"
    match = re.search(pattern, page, re.MULTILINE | re.DOTALL)
    if match is None:
        raise ValueError(f"{PAGE.name} does not show: {command}")
    return match
