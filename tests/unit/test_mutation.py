"""The list of changes that no test notices is about lines that exist, and gives a reason."""

import ast

from tests.mutation.mutants import CORE, MODULES, ROOT
from tests.mutation.survivors import Survivor, explained, render

SOURCES = {
    name: " ".join((ROOT / f"operator/{CORE}/{name}.py").read_text().split()) for name in MODULES
}
REASONS = ("Equivalent: ", "Covered by tests/", "Open: ")


def test_each_listed_line_is_in_its_module() -> None:
    stale = [
        survivor
        for survivor in explained()
        if f"def {survivor.function.rpartition('.')[2]}(" not in SOURCES[survivor.module]
        or survivor.before not in SOURCES[survivor.module]
    ]
    assert not stale, "remove them from tests/mutation/survivors.toml"


def test_listed_lines_have_a_reason() -> None:
    assert not [line for line, why in explained().items() if not why.startswith(REASONS)]


def test_rendered_entries_are_those_of_the_list() -> None:
    one = Survivor("runs.begin", 'x = "a  b"', "x = 'c'")
    two = Survivor("runs.begin", 'x = "a  b"', "")
    assert one.before == 'x = "a b"', "white space has no meaning"
    assert render({one: "Open: why", two: "Open: why"}) == (
        "[[survivor]]\n"
        'function = "runs.begin"\n'
        "before = 'x = \"a b\"'\n"
        'after = [\n    "",\n    "x = \'c\'",\n]\n'
        'reason = "Open: why"\n'
    )


def test_methods_of_the_core_tests_have_no_generated_arguments() -> None:
    """mutmut runs the tests several times in one process. Hypothesis then refuses a method, because
    its object differs."""
    files = (ROOT / "tests/unit/core").glob("test_*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    classes = (node for node in nodes if isinstance(node, ast.ClassDef))
    methods = [one for class_ in classes for one in class_.body if isinstance(one, ast.FunctionDef)]
    decorators = {(one.name, ast.unparse(by)) for one in methods for by in one.decorator_list}
    assert methods
    assert not [name for name, decorator in decorators if decorator.startswith("given(")]
