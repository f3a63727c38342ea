"""docs/logs.md lists the messages of the operator's log, their levels, and the fields."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from initpipeline.core.run_log import ORDER

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = ROOT / "docs" / "logs.md"
LEVELS: Final = {"exception": "ERROR"}
OF_FORMATTER: Final = {"time", "level", "logger", "message", "exc_info"}
"""Fields that no call has, because the formatter adds them."""


def nodes() -> Iterator[ast.AST]:
    """Yields the syntax of all modules that log, and of the one that derives lines."""
    package = ROOT / "operator" / "initpipeline"
    for file in [*(package / "runtime").glob("*.py"), package / "core" / "run_log.py"]:
        yield from ast.walk(ast.parse(file.read_text()))


def name_of(node: ast.AST) -> str:
    """Returns the last part of a name: ``info`` for ``logger.info``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST) -> str:
    """Returns the text of a literal. "": the node is something else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def logged() -> dict[str, set[str]]:
    """Returns the levels of each message in the source."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for message in ORDER:
        found[message].add("INFO")
    for node in nodes():
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if name_of(target) == "_FAILED" and text_of(node.value):
                found[text_of(node.value)].add("WARNING")
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function, message = node.func, text_of(node.args[0])
        if name_of(function) == "repeat" and message:
            found[message] |= {"WARNING", "ERROR"}
        elif isinstance(function, ast.Attribute) and name_of(function.value) == "logger":
            level = LEVELS.get(function.attr, function.attr.upper())
            found[message].add(level)
    del found[""]  # A name instead of a literal.
    return dict(found)


def fields() -> set[str]:
    """Returns the names of all fields in the source: of dictionaries that are passed as ``extra``
    or have a name for it, and of the arguments of ``_present``."""
    found: set[str] = set()
    for node in nodes():
        match node:
            case ast.keyword(arg="extra", value=value):
                found |= keys(value)
            case ast.Assign(targets=[ast.Name(id="fields")], value=value):
                found |= keys(value)
            case ast.AnnAssign(target=ast.Name(id="fields"), value=ast.Dict() as value):
                found |= keys(value)
            case ast.Assign(
                targets=[ast.Subscript(value=ast.Name(id="fields"), slice=ast.Constant() as key)]
            ):
                found.add(text_of(key))
            case ast.FunctionDef(name="_fields" | "fields_of"):
                for one in ast.walk(node):
                    if isinstance(one, ast.Return) and one.value is not None:
                        found |= keys(one.value)
            case ast.Call(func=ast.Name(id="_present"), keywords=arguments):
                found |= {argument.arg or "" for argument in arguments}
    return {name for name in found if name == name.lower()}  # The fields of a Lease are camelCase.


def keys(node: ast.AST) -> set[str]:
    """Returns the literal keys of the dictionaries in an expression."""
    dictionaries = [one for one in ast.walk(node) if isinstance(one, ast.Dict)]
    return {text_of(key) for one in dictionaries for key in one.keys if key is not None}


def table(heading: str) -> list[list[str]]:
    """Returns the cells of the rows of the table below a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def names_in(cell: str) -> list[str]:
    return [name for name in cell.split("`")[1::2] if name]


def test_page_lists_each_message_with_its_levels() -> None:
    listed = {
        name: set(level.split(", "))
        for messages, level, _ in table("Messages")
        for name in names_in(messages)
    }
    assert listed == logged()


def test_page_lists_each_field() -> None:
    listed = {name for names, *_ in table("Fields") for name in names_in(names)}
    assert listed - OF_FORMATTER == fields()
