"""Reads the meanings of the API's values from the docstrings in operator/initpipeline/api.

Python does not keep the docstring of a class attribute, so this parses the source.
"""

import ast
import inspect
import itertools
from collections.abc import Iterator, Mapping
from types import ModuleType

from initpipeline.api import names, reasons
from initpipeline.api.crd import Meanings


def of_values(module: ModuleType = reasons) -> Meanings:
    """Returns the docstrings of the members of each enumeration in a module.

    Raises ValueError for a member without a docstring.
    """
    return {
        node.name: dict(_documented(node.body))
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
    }


def of_names() -> Mapping[str, str]:
    """Returns the docstrings of the constants in names.py, by the name of the constant."""
    body = ast.parse(inspect.getsource(names)).body
    documented: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = _text(following)
            if text:
                documented[statement.target.id] = text
    return documented


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign):
            continue
        value = ast.literal_eval(statement.value)
        text = _text(following)
        if text is None:
            raise ValueError(f"{value} has no docstring")
        yield value, text


def _text(statement: ast.stmt | None) -> str | None:
    """Returns the text of a docstring, one line for each paragraph. None: this is not one."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return None
    text = statement.value.value
    if not isinstance(text, str):
        return None
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
