"""Builds Pod templates with many items in one list or map, from the schema in the CRD."""

from typing import Any, Final

from crds.generate import CRD_FILE
from initpipeline.api.podlists import LISTS
from initpipeline.api.podtemplate import MOST_NESTED, Schema
from tests import libyaml
from tests.contract.admission_client import Template, minimal_template

OUTER: Final = 11
"""Items of the outer list, if a list is in the items of another one."""

_CRD: Final = libyaml.safe_load(CRD_FILE.read_text())
_SPEC: Final[Schema] = _CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
    "spec"
]
_TEMPLATE: Final[Schema] = _SPEC["properties"]["template"]


def schema_of(path: str) -> Schema:
    """Returns the schema of the list or map at a path, as in LISTS."""
    schema = _TEMPLATE
    for name in path.replace("[]", ".[]").split("."):
        schema = schema["items"] if name == "[]" else schema["properties"][name]
    return schema


BOUNDED: Final = [path for path in LISTS if "[]" not in path and "maxItems" in schema_of(path)]
"""Lists that the schema limits to MOST_NESTED items, and that are not in the items of a list."""

COUNTED: Final = [path for path in LISTS if path not in BOUNDED]
"""The other lists and maps."""


_NOT_IN_STEPS: Final = {"lifecycle", "livenessProbe", "readinessProbe", "startupProbe"}


def template_with(path: str, number: int) -> Template:
    """Returns a template with this number of items in the list or map at the path. If it is in the
    items of another list, the template has OUTER such lists with MOST_NESTED items each. Init
    containers with fields that a step must not have are sidecars, beside a step."""
    template = minimal_template()
    _fill(template, _TEMPLATE, path.replace("[]", ".[]").split("."), number)
    inits = template["spec"]["initContainers"]
    sidecars = [container for container in inits if container.keys() & _NOT_IN_STEPS]
    for container in sidecars:
        container["restartPolicy"] = "Always"
    if sidecars:
        inits.append({"name": "step", "image": "i"})
    return template


def _fill(owner: Any, schema: Schema, names: list[str], number: int) -> None:
    name, *rest = names
    child = schema["properties"][name]
    if not rest:
        owner[name] = _items(child, number)
    elif rest[0] != "[]":
        _fill(owner.setdefault(name, _smallest(child, 0)), child, rest, number)
    else:
        count = OUTER if number > MOST_NESTED else 1
        owner[name] = _items(child, count)
        for item in owner[name]:
            _fill(item, child["items"], rest[1:], MOST_NESTED if count == OUTER else number)


def _items(schema: Schema, number: int) -> Any:
    if "items" in schema:
        return [_smallest(schema["items"], index) for index in range(number)]
    value = _smallest(schema["additionalProperties"], 0)
    return {f"key-{index}": value for index in range(number)}


def _smallest(schema: Schema, index: int) -> Any:
    """Returns the smallest value. Values of different indices differ, if the type allows it."""
    if "enum" in schema:
        return schema["enum"][-1]
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            return {name: _smallest(schema["properties"][name], index) for name in required}
        case "array":
            return []
        case "integer":
            return index + 1
        case "boolean":
            return True
        case "string":
            return f"item-{index}"
        case _:  # a quantity, or an integer or string
            return "1"
