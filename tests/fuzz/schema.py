"""Validate a value by a CRD's structural schema, as the API server does.

Only the keywords that the CRD uses are implemented. tests/contract tests the CRD on an API server.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from initpipeline.api.podtemplate import Schema
from tests import libyaml

_CRD: Final = Path(__file__).parents[2] / "crds/initpipelines.yaml"
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_DATE_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]+)?([Zz]|[+-].{5})")
_INT_BITS: Final = {"int32": 31, "int64": 63}


def schema_of(field: str) -> Schema:
    """Return the schema of a field of an InitPipeline: spec or status."""
    crd = libyaml.safe_load(_CRD.read_text())
    [version] = crd["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]["properties"][field]
    return schema


def errors(value: Any, schema: Schema, path: str = "status") -> Iterator[str]:
    """Yield the errors for which the API server would refuse the value."""
    type_ = schema.get("type")
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string") and not isinstance(value, int | str):
        yield f"{path}: neither an integer nor a string"
    if type_ and (
        not isinstance(value, _TYPES[type_]) or (isinstance(value, bool) and type_ != "boolean")
    ):
        yield f"{path}: {type(value).__name__} instead of {type_}"
        return
    if isinstance(value, dict):
        yield from _of_object(value, schema, path)
    elif isinstance(value, list):
        yield from _of_list(value, schema, path)
    else:
        yield from _of_scalar(value, schema, path)


def _of_object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: missing"
    for name, inner in value.items():
        known = properties.get(name, schema.get("additionalProperties"))
        if isinstance(known, dict):
            yield from errors(inner, known, f"{path}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: unknown"


def _of_list(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    for index, item in enumerate(value):
        yield from errors(item, schema.get("items", {}), f"{path}[{index}]")
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys:
        entries = [tuple(item.get(key) for key in keys) for item in value if isinstance(item, dict)]
        if len(set(entries)) != len(entries):
            yield f"{path}: duplicate entry"


def _of_scalar(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            yield f"{path}: does not match"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{path}: longer than {schema['maxLength']}"
        if schema.get("format") == "date-time" and not _DATE_TIME.fullmatch(value):
            yield f"{path}: {value!r} is not a date-time"
    elif isinstance(value, int) and not isinstance(value, bool):
        bits = _INT_BITS.get(schema.get("format", ""), 63)
        least, most = schema.get("minimum", -(2**bits)), schema.get("maximum", 2**bits - 1)
        if not least <= value <= most:
            yield f"{path}: {value} is not within {least} and {most}"
