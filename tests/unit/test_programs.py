"""The programs below tests/, as seen from outside."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
OF_THE_MACHINE: Final = {"cryptography", "yaml"}
"""Packages that a Linux distribution installs with its tools. tests/cluster needs no others."""


def imports(file: Path) -> Iterator[str]:
    """Yields the modules that a file imports. For ``from tests import x``: tests.x."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            nested = module == "tests" or module.startswith("tests.")
            yield module
            yield from (f"{module}.{name.name}" for name in node.names if nested)


def test_cluster_imports_no_package_of_the_virtual_environment() -> None:
    """python -m tests.cluster works in a checkout without installation (decision 0011)."""
    pending = sorted((TESTS / "cluster").glob("*.py"))
    read: set[Path] = set()
    foreign: set[str] = set()
    while pending:
        file = pending.pop()
        read.add(file)
        for module in imports(file):
            top, _, path = module.partition(".")
            own = TESTS.joinpath(*path.split(".")).with_suffix(".py") if top == "tests" else None
            if own is not None and own.exists() and own not in read:
                pending.append(own)
            if top not in sys.stdlib_module_names | OF_THE_MACHINE | {"tests"}:
                foreign.add(f"{file.relative_to(TESTS)}: {module}")
    assert TESTS / "poll.py" in read, "imports are followed"
    assert foreign == set()
