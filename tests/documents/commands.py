"""Parse the documents: the commands and the files of each section."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

ROOT: Final = Path(__file__).parents[2]
RECIPES: Final = "docs/recipes.md"
DOCUMENTS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md")),
)
_SCRIPTS: Final = ("sh", "bash", "shell")
_FILE: Final = re.compile(r"# ([\w./-]+\.(?:yaml|sh|py))\n")


@dataclass(frozen=True)
class Section:
    """A part of a document, from a heading to the next one."""

    document: str
    """The path of the document in the repository."""
    heading: str
    """The text of the heading. It is empty before the first one."""
    commands: tuple[str, ...]
    """The commands after a ``$`` and the lines of scripts, in their order."""
    files: tuple[tuple[str, str], ...]
    """The path and the content of each block whose first line is a comment with a path."""


@cache
def sections() -> tuple[Section, ...]:
    """Return the sections with a command or a file, of all documents but the recipes.

    The end-to-end tests run each recipe as a whole.
    """
    return tuple(
        section
        for document in DOCUMENTS
        if document != RECIPES
        for section in _sections(document)
        if section.commands or section.files
    )


def _sections(document: str) -> Iterator[Section]:
    heading, commands, files = "", list[str](), list[tuple[str, str]]()
    tokens = MarkdownIt().parse((ROOT / document).read_text())
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if previous is not None and previous.type == "heading_open":
            yield Section(document, heading, tuple(commands), tuple(files))
            heading, commands, files = token.content, [], []
        elif token.type == "fence" and token.info == "console":
            commands += _commands(token.content)
        elif token.type == "fence" and (name := _FILE.match(token.content)):
            files.append((name[1], token.content))
        elif token.type == "fence" and token.info in _SCRIPTS:
            commands += _commands(re.sub(r"^(?=\S)", "$ ", token.content, flags=re.MULTILINE))
    yield Section(document, heading, tuple(commands), tuple(files))


def _commands(block: str) -> Iterator[str]:
    """Yield the commands of a block. Lines follow the first one until bash accepts the command."""
    command = ""
    for line in block.splitlines():
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
        elif command:
            command += f"\n{line}"
        if command and _is_complete(command):
            yield command
            command = ""
    assert not command, f"not a command: {command}"


def _is_complete(command: str) -> bool:
    if command.endswith("\\"):
        return False
    parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    # An open here-document is a warning.
    return parsed.returncode == 0 and not parsed.stderr
