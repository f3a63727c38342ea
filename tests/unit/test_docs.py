"""The documents: length, links, and the names of files and targets that they mention."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic.alias_generators import to_camel

import initpipeline.core
from initpipeline.api.models import InitPipelineSpec
from initpipeline.api.reasons import Trigger
from tests.prose import FENCE
from tests.unit.model.test_state_machine import Stories

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
DOCUMENTS: Final = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/**/*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "tests").rglob("README.md"),
    ]
)
MAPS: Final = [
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "development.md",
    *(ROOT / "docs" / "decisions").glob("*.md"),
]
"""The documents that name files of the source tree."""

README_LINES: Final = 130
README_COLUMNS: Final = 110

CODE: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
FILE: Final = re.compile(r"[\w.-]+(?:/[\w.{},*-]+)*(?:/|\.(?:py|md|yaml|toml|txt|lua|json|go|sh))")
REFERENCE: Final = re.compile(r"`([\w./-]+\.py)::([\w.]+)`")
"""A file and the qualified name of a class or function in it."""
PIPE: Final = re.compile(r"(?<!\\)\|")
BLOCK_MARK: Final = re.compile(r"(?<=\S) (?:[-*+] |#{1,6} |```|~~~)|\S  +\S")
"""The start of a list item, a heading or a code block, or an indentation, after other text."""
TARGET: Final = re.compile(r"\bmake ((?:[a-z][a-z0-9-]* ?)+)")

SOURCE_FOLDERS: Final = (
    ".",
    "operator/initpipeline",
    "operator/initpipeline/api",
    "operator/initpipeline/core",
    "operator/initpipeline/plugin",
    "operator/initpipeline/runtime",
    "tests",
    "tests/unit",
    "docs",
)
"""A document names a file relative to one of these."""


def relative(file: Path) -> str:
    """Returns the file's path in the repository, which names it in a test report."""
    return str(file.relative_to(ROOT))


def prose(text: str) -> str:
    """Returns the text without its code blocks."""
    return FENCE.sub("", text)


def code_of(text: str) -> Iterator[str]:
    """Yields the code blocks and the code spans."""
    for match in FENCE.finditer(text):
        yield match[0]
    yield from CODE.findall(prose(text))


def anchors(file: Path) -> set[str]:
    """Returns the anchors that GitHub gives the document's headings."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(file.read_text())):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number, unique = 0, anchor
        while unique in found:
            number += 1
            unique = f"{anchor}-{number}"
        found.add(unique)
    return found


def links(file: Path) -> Iterator[tuple[Path, str]]:
    """Yields the file and the anchor of each link to another place in the repository."""
    for target in LINK.findall(CODE.sub("", prose(file.read_text()))):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        yield (file.parent / path if path else file), anchor


def mentioned_files(file: Path) -> Iterator[str]:
    """Yields the path of each file or folder in a code span, with braces expanded."""
    for code in CODE.findall(prose(file.read_text())):
        for word in code.split():
            if FILE.fullmatch(word):
                yield from expand_braces(word)


def expand_braces(path: str) -> list[str]:
    """Returns the paths that a shell would make of ``a/{b,c}.py``."""
    match = re.search(r"\{([^{}]*)\}", path)
    if match is None:
        return [path]
    before, after = path[: match.start()], path[match.end() :]
    return [file for part in match[1].split(",") for file in expand_braces(before + part + after)]


def exists(path: str) -> bool:
    """Returns whether the repository has the file, relative to one of the source folders. NAME
    stands for any name."""
    pattern = path.rstrip("/").replace("NAME", "*")
    return any(any((ROOT / folder).glob(pattern)) for folder in SOURCE_FOLDERS)


def definitions(file: Path) -> set[str]:
    """Returns the qualified names of the classes and functions in a module."""

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{prefix}{node.name}.")

    return set(names(ast.parse(file.read_text()).body, ""))


def blocks(text: str) -> list[Token]:
    """Returns the tokens of a document, parsed as GitHub does."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def joined_lines(text: str) -> Iterator[str]:
    """Yields each line of a paragraph that contains a row of a table, or the start of a list item,
    a heading or a code block. GitHub shows it as text: a line break or an empty line is missing."""
    in_cell = False
    for token in blocks(text):
        if token.type in {"th_open", "td_open", "th_close", "td_close"}:
            in_cell = token.nesting == 1
        if token.type == "inline" and not in_cell:
            for line in CODE.sub("X", token.content).splitlines():
                if PIPE.search(line) or BLOCK_MARK.search(line):
                    yield line


def uneven_rows(text: str) -> Iterator[str]:
    """Yields each row of a table that has more or fewer cells than the header. GitHub drops surplus
    cells, and adds empty ones for missing ones."""
    lines, columns, in_head = text.splitlines(), 0, False
    for token in blocks(text):
        if token.type in {"thead_open", "thead_close"}:
            in_head = token.nesting == 1
        if token.type == "tr_open" and token.map:
            row = lines[token.map[0]]
            cells = len(PIPE.findall(row))
            columns = cells if in_head else columns
            if cells != columns:
                yield row


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_readme_has_at_most_130_lines_of_110_columns() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= README_LINES
    assert not [line for line in lines if len(line) > README_COLUMNS]


def test_readme_has_one_row_for_each_trigger() -> None:
    rows = re.findall(r"^\|[^|]+\| `(\w+)` \|", README.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(Trigger)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    dead = [
        f"{target}#{anchor}"
        for target, anchor in links(document)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert not dead


@pytest.mark.parametrize("document", MAPS, ids=relative)
def test_files_named_in_maps_exist(document: Path) -> None:
    missing = [path for path in mentioned_files(document) if not exists(path)]
    assert not missing


def test_functions_named_in_the_architecture_exist() -> None:
    references = REFERENCE.findall((ROOT / "docs" / "architecture.md").read_text())
    package = ROOT / "operator" / "initpipeline"
    missing = [
        f"{path}::{name}"
        for path, name in references
        if not (package / path).exists() or name not in definitions(package / path)
    ]
    assert references
    assert not missing


def test_core_docstring_lists_each_spec_field() -> None:
    docstring = initpipeline.core.__doc__ or ""
    fields = [to_camel(name) for name in InitPipelineSpec.model_fields]
    assert [field for field in fields if f"``{field}``" not in docstring] == []


def test_story_in_the_development_page_uses_rules_of_the_state_machine() -> None:
    page = (ROOT / "docs" / "development.md").read_text()
    rules = set(re.findall(r"^state\.(\w+)\(", page, re.MULTILINE))
    assert rules
    assert rules <= set(dir(Stories))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_make_targets_named_in_documents_exist(document: Path) -> None:
    code = "\n".join(code_of(document.read_text()))
    named = {target for words in TARGET.findall(code) for target in words.split()}
    assert named <= makefile_targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_tables_lists_and_headings_start_on_lines_of_their_own(document: Path) -> None:
    assert list(joined_lines(document.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "The first row applies:  | status | when |\n|---|---|\n| a | b |",
        "The first row applies:\n| status | when |\n|---|\n| a | b |",
        "| status | when |\n| a | b |",
        "Two things: - the first",
        "A paragraph. ## A heading",
        "A command: ```sh",
        "examples:  initpipeline run",
    ],
)
def test_joined_lines_are_found(text: str) -> None:
    assert list(joined_lines(text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_rows_of_a_table_have_as_many_cells_as_its_header(document: Path) -> None:
    assert list(uneven_rows(document.read_text())) == []


@pytest.mark.parametrize("row", ["| a |", "| a | b | c |", "| `a|b` | c |"])
def test_uneven_row_is_found(row: str) -> None:
    assert list(uneven_rows(f"| status | when |\n|---|---|\n{row}")) == [row]
