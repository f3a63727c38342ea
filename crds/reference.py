"""Writes the tables of docs/reference.md from the models, enumerations and settings.

``make generate`` runs this. ``python -m crds.reference`` does too, and needs no cluster. A table
stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. The rest of the page is written by
hand.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crds import meanings
from initpipeline.api import names
from initpipeline.api.crd import PRINTER_COLUMNS, model_schema
from initpipeline.api.models import InitPipeline
from initpipeline.api.podtemplate import Schema
from initpipeline.api.reasons import CONDITIONS, EventReason, Reason
from initpipeline.api.triggers import TRIGGERS
from initpipeline.core.run_events import RunEvent
from initpipeline.runtime.settings import Settings, option, variable

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference.md"

_BLOCK: Final = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CODE: Final = re.compile(
    rf"`[^`]*`|(?:spec|status|metadata)\.\w[\w.\[\]]*\b\]?|{names.GROUP}/[\w-]*\w|"
    r"\b[a-z]+[A-Z]\w*|\b[A-Z][a-z]+[A-Z]\w*"
)
"""Code that is quoted already, and what may be code: a path, an annotation, a camelCase name."""

_NESTED: Final = frozenset({"run", "history", "conditions", "initContainerStatuses"})
"""Fields of status whose own fields are not in the table of status."""


def filled(page: str) -> str:
    """Returns the page with each generated table up to date.

    Raises ValueError if the page lacks a table, or has an unknown one.
    """
    present = sorted(name for _, name, _ in _BLOCK.findall(page))
    if present != sorted(TABLES):
        raise ValueError(f"the page has the tables {present}, not {sorted(TABLES)}")
    return _BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}\n{block[3]}", page)


def write() -> None:
    """Updates the tables of the page."""
    PAGE.write_text(filled(PAGE.read_text()))


def _spec() -> str:
    spec = _properties("spec")
    required = [row for row in _rows(spec) if row[0] == "template"]
    optional = [row for row in _rows(spec) if row[0] != "template"]
    return _table(
        ("field", "default", "meaning"),
        (
            (f"`{path}`", _default(path, field), _without_default(field["description"]))
            for path, field in (*required, *optional)
        ),
    )


def _status() -> str:
    rows = _rows(_properties("status"), _NESTED)
    return _table(
        ("field", "meaning"), ((f"`{path}`", cell(field["description"])) for path, field in rows)
    )


def _runs() -> str:
    status = _properties("status")
    run = dict(_rows(status["run"]["properties"], _bookkeeping_fields()))
    record = dict(_rows(status["history"]["items"]["properties"]))
    rows = run | record
    return _table(
        ("field", "in", "meaning"),
        (
            (f"`{path}`", _location(path, run, record), _without_values(rows[path]))
            for path in rows
            if path not in _bookkeeping_fields()
        ),
    )


def _location(path: str, run: Mapping[str, Schema], record: Mapping[str, Schema]) -> str:
    parts = [name for name, fields in (("run", run), ("history", record)) if path in fields]
    return ", ".join(f"`{name}`" for name in parts)


def _bookkeeping() -> str:
    fields = _properties("status")["run"]["properties"]
    return _table(
        ("field", "meaning"),
        ((f"`{name}`", cell(fields[name]["description"])) for name in _bookkeeping_fields()),
    )


def _bookkeeping_fields() -> list[str]:
    """Returns the fields that only the current run has, in their order."""
    status = _properties("status")
    record = status["history"]["items"]["properties"]
    return [name for name in status["run"]["properties"] if name not in record]


def _columns() -> str:
    return _table(
        ("column", "shown", "field"),
        (
            (
                column["name"],
                "with `-o wide`" if "priority" in column else "always",
                f"`{column['jsonPath'].lstrip('.')}`",
            )
            for column in PRINTER_COLUMNS
        ),
    )


def _conditions() -> str:
    return _values("ConditionType", "type")


def _triggers() -> str:
    return _table(
        ("trigger", "started by", "meaning"),
        (
            (f"`{trigger}`", row.starter.name.lower(), cell(_MEANINGS["Trigger"][trigger]))
            for trigger, row in TRIGGERS.items()
        ),
    )


def _results() -> str:
    return _values("Result", "result")


def _reasons() -> str:
    rows = []
    for value, text in _MEANINGS["Reason"].items():
        meaning, _, remedy = text.partition("\n\n")
        conditions = ", ".join(f"`{type_}`" for type_ in CONDITIONS[Reason(value)])
        rows.append((f"`{value}`", conditions, cell(meaning), cell(remedy)))
    return _table(("reason", "conditions", "meaning", "what to do"), rows)


def _events() -> str:
    documented = _MEANINGS["EventReason"]
    return _table(
        ("reason", "type", "meaning"),
        (
            (f"`{reason}`", RunEvent(reason, 1, "").type, cell(documented[reason]))
            for reason in EventReason
        ),
    )


def _names() -> str:
    rows = []
    for constant, text in meanings.of_names().items():
        kind = constant.rpartition("_")[2].lower()
        if kind in {"label", "annotation"}:
            rows.append((f"`{getattr(names, constant)}`", kind, cell(text)))
    return _table(("name", "kind", "meaning"), rows)


def _settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default else ""
        rows.append(
            (f"`{option(name)}`", f"`{variable(name)}`", default, cell(field.description or ""))
        )
    return _table(("option", "environment variable", "default", "meaning"), rows)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "spec": _spec,
    "status": _status,
    "runs": _runs,
    "bookkeeping": _bookkeeping,
    "columns": _columns,
    "conditions": _conditions,
    "triggers": _triggers,
    "results": _results,
    "reasons": _reasons,
    "events": _events,
    "names": _names,
    "settings": _settings,
}
"""The tables by name."""

_MEANINGS: Final = meanings.of_values()
_CODE_VALUES: Final = {value for values in _MEANINGS.values() for value in values}
_SCHEMA: Final = model_schema(InitPipeline.model_json_schema(), _MEANINGS)


def _properties(part: str) -> dict[str, Schema]:
    properties: dict[str, Schema] = _SCHEMA["properties"][part]["properties"]
    return properties


def _rows(
    properties: Mapping[str, Schema], without: Iterable[str] = ()
) -> Iterator[tuple[str, Schema]]:
    """Yields each field with its path, then the fields below it."""
    for name, field in properties.items():
        yield name, field
        if name in without:
            continue
        below = field.get("properties") or field.get("items", {}).get("properties", {})
        suffix = "[]" if field["type"] == "array" else ""
        for path, inner in _rows(below):
            yield f"{name}{suffix}.{path}", inner


def _default(path: str, field: Schema) -> str:
    if path == "template" or path.endswith(".name"):
        return "required"
    default: Any = field.get("default")
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if default is None else f"`{default}`"


def _values(enumeration: str, title: str) -> str:
    return _table(
        (title, "meaning"),
        ((f"`{value}`", cell(text)) for value, text in _MEANINGS[enumeration].items()),
    )


def _without_default(description: str) -> str:
    """Returns the content of a cell without the default, which has its own column."""
    return cell(re.sub(r" Defaults to \w+\.", "", description))


def _without_values(field: Schema) -> str:
    """Returns the content of a cell without the values, which have a table of their own."""
    return cell(field["description"].partition("\n- ")[0])


def cell(text: str) -> str:
    """Returns a description as the content of a table's cell: code is quoted, and each value of an
    enumeration has a line of its own."""
    first, *values = text.split("\n- ")
    named = (value.partition(": ") for value in values)
    lines = [_CODE.sub(_quoted, first)]
    lines += [f"`{name}`: {_CODE.sub(_quoted, meaning)}" for name, _, meaning in named]
    return "<br>".join(lines).replace("|", "\\|")


def _quoted(code: re.Match[str]) -> str:
    text = code[0]
    is_kind = text[0].isupper() and text not in _CODE_VALUES
    return text if text[0] == "`" or is_kind else f"`{text}`"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


if __name__ == "__main__":
    write()
