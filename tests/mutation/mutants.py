"""Runs mutmut on a copy of the tree, and reads the mutants that survived."""

import ast
import io
import json
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutation.survivors import Survivor

ROOT: Final = Path(__file__).parents[2]
CORE: Final = "initpipeline/core"
MODULES: Final = tuple(
    sorted(
        path.stem
        for path in (ROOT / "operator" / CORE).glob("*.py")
        if path.stem != "__init__"  # It has a docstring only.
    )
)
TESTS: Final = ("tests/unit/core", "tests/unit/model/test_recorded.py")
COPIED: Final = ("tests", "crds", "manifests", "docs", "pyproject.toml", "README.md")

SURVIVED, NO_TESTS, NOT_RUN = 0, (5, 33), (None, 2)
"""Exit codes of pytest that mutmut records. All others are failed tests, time-outs and crashes."""
COUNTS: Final = re.compile(r"(\d+)/(\d+) .*🙁 (\d+)")


class MutationError(Exception):
    """mutmut did not run all mutants."""


def copy_tree(directory: str, modules: list[str]) -> Path:
    """Copy what the tests need, with the package at the top, because mutmut derives the name of a
    module from its path. Return the root of the copy."""
    root = Path(directory)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "operator/initpipeline", root / "initpipeline", ignore=ignored)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, root / name)
    settings = {
        "source_paths": [f"{CORE}/{module}.py" for module in modules],
        "pytest_add_cli_args": ("-p", "tests.mutation.order"),
        "pytest_add_cli_args_test_selection": TESTS,
        "also_copy": ["initpipeline", *COPIED],
    }
    lines = [f"{key}=\n    " + "\n    ".join(values) for key, values in settings.items()]
    (root / "setup.cfg").write_text("\n".join(["[mutmut]", *lines, ""]))
    return root


def run(root: Path) -> int:
    """Run all mutants, and show the progress on one line. Return the number of mutants."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run"]
    last: deque[str] = deque(maxlen=40)
    total = 0
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for piece in io.TextIOWrapper(process.stdout, encoding="utf-8", newline=None):
            counts = COUNTS.search(piece)
            if counts is None:
                last.append(piece)
                _show(piece[2:].strip())
            else:
                total = int(counts[2])
                _show(f"{counts[1]} of {total} mutants, {counts[3]} survived")
    print(file=sys.stderr)
    if process.returncode or not total:
        raise MutationError(f"mutmut ended with {process.returncode}:\n{''.join(last)}")
    return total


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress[:100]}", end="", file=sys.stderr, flush=True)


def survivors(root: Path) -> set[Survivor]:
    """Return the mutants of all modules that no test noticed."""
    found: set[Survivor] = set()
    for meta in sorted((root / "mutants" / CORE).glob("*.py.meta")):
        results = json.loads(meta.read_text())["exit_code_by_key"]
        if missing := [name for name, code in results.items() if code in NOT_RUN]:
            raise MutationError(f"{len(missing)} mutants were not run, such as {missing[0]}")
        names = {
            name.rpartition(".")[2]
            for name, code in results.items()
            if code == SURVIVED or code in NO_TESTS
        }
        found.update(_differences(meta.with_suffix(""), names))
    return found


def _differences(mutated: Path, names: set[str]) -> Iterator[Survivor]:
    """Yield how these mutants differ from the original functions in the same file."""
    source = mutated.read_text()
    lines = source.splitlines()
    functions = {
        node.name: lines[node.lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    for name in names:
        mangled = name.partition("__mutmut_")[0]
        function = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        written = function.rpartition(".")[2]  # The name in the source.
        original, changed = (
            [line.replace(version, written) for line in functions[version]]
            for version in (f"{mangled}__mutmut_orig", name)
        )
        yield Survivor(f"{mutated.stem}.{function}", *_changed_lines(original, changed))


def _changed_lines(before: list[str], after: list[str]) -> tuple[str, str]:
    """Return the lines between the first and the last that differ, of both."""
    shorter = min(len(before), len(after))
    head = next((n for n in range(shorter) if before[n] != after[n]), shorter)
    tail = next(
        (n for n in range(shorter - head) if before[-1 - n] != after[-1 - n]), shorter - head
    )
    return "\n".join(before[head : len(before) - tail]), "\n".join(after[head : len(after) - tail])
