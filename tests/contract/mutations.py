"""Yields values with one change each, by the OpenAPI schema that an API server publishes."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from kubernetes.utils.quantity import parse_quantity

from initpipeline.api.podtemplate import MACHINERY, Definitions, Schema

QUANTITY: Final = f"{MACHINERY}api.resource.Quantity"
PLAIN: Final[dict[str, tuple[Any, ...]]] = {
    QUANTITY: (0, "7", "-1", 1.5),
    f"{MACHINERY}util.intstr.IntOrString": (0, 7, "7", "http"),
    f"{MACHINERY}apis.meta.v1.FieldsV1": ({},),
    f"{MACHINERY}apis.meta.v1.Time": ("2026-01-01T00:00:00Z",),
    "string": ("", "x", "Always"),
    "integer": (0, 1, 7),
    "number": (0, 1.5),
    "boolean": (False, True),
}
"""Values to try, by type: the zero value first."""

RESPELLED: Final[dict[str, Callable[[int], Any]]] = {
    "milli": lambda milli: f"{milli}m",
    "signed": lambda milli: f"+{milli}m",
    "zeros in front": lambda milli: f"00{milli}m",
    "point": lambda milli: f"{milli // 1000}.{milli % 1000:03}000",
    "exponent": lambda milli: f"{milli}e-3",
    "capital exponent": lambda milli: f"{milli}E-03",
    "number": lambda milli: milli // 1000 if milli % 1000 == 0 else milli / 1000,
    "binary": lambda milli: f"{milli // 1000 // 1024}Ki" if milli % 1024_000 == 0 else f"{milli}m",
}
"""Another spelling of the same amount, by the amount in thousandths."""


def resolved(schema: Schema, definitions: Definitions) -> tuple[str, Schema]:
    """Returns the type of a published schema, and the schema that its reference refers to."""
    [target] = schema.get("allOf", [schema])
    if "$ref" in target:
        name = target["$ref"].rpartition("/")[2]
        return name, definitions[name]
    return schema.get("type", ""), schema


def mutations(
    schema: Schema, value: Any, definitions: Definitions, path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yields the value with each field changed, removed or added, and each item doubled, removed or
    moved. Also yields the path of the change, without indices."""
    type_, schema = resolved(schema, definitions)
    if type_ in PLAIN:
        yield from ((f"{path} = {new!r}", new) for new in PLAIN[type_] if new != value)
    elif isinstance(value, list):
        yield from _of_list(schema, value, definitions, path)
    elif "properties" in schema:
        yield from _of_object(schema, value, definitions, path)
    elif isinstance(value, dict):
        yield from _of_map(schema, value, definitions, path)


def _of_list(
    schema: Schema, value: list[Any], definitions: Definitions, path: str
) -> Iterator[tuple[str, Any]]:
    for index, item in enumerate(value):
        before, after = value[:index], value[index + 1 :]
        yield f"{path}[] removed", [*before, *after]
        yield f"{path}[] twice", [*value, item]
        yield f"{path}[] null", [*before, None, *after]
        for what, new in mutations(schema["items"], item, definitions, f"{path}[]"):
            yield what, [*before, new, *after]
    if len(value) > 1:
        yield f"{path} reversed", value[::-1]


def _of_map(
    schema: Schema, value: dict[str, Any], definitions: Definitions, path: str
) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        yield f"{path}[{key}] removed", {name: value[name] for name in value if name != key}
        for what, new in mutations(
            schema["additionalProperties"], item, definitions, f"{path}[{key}]"
        ):
            yield what, value | {key: new}


def _of_object(
    schema: Schema, value: dict[str, Any], definitions: Definitions, path: str
) -> Iterator[tuple[str, Any]]:
    for key, child in schema["properties"].items():
        here = f"{path}.{key}"
        if key in value:
            yield f"{here} removed", {name: value[name] for name in value if name != key}
            yield f"{here} null", value | {key: None}
            for what, new in mutations(child, value[key], definitions, here):
                yield what, value | {key: new}
        else:
            for new in _examples(child, definitions):
                yield f"{here} added as {new!r}", value | {key: new}


def _examples(schema: Schema, definitions: Definitions) -> tuple[Any, ...]:
    type_, schema = resolved(schema, definitions)
    if type_ in PLAIN:
        return (*PLAIN[type_], *schema.get("enum", ()))
    if schema.get("type") == "array":
        item, _ = resolved(schema["items"], definitions)
        return ([], ["x"]) if item == "string" else ([],)
    if "additionalProperties" in schema:
        item, _ = resolved(schema["additionalProperties"], definitions)
        return {}, {"cpu": "7" if item == QUANTITY else ""}
    return ({},)


def respellings(
    schema: Schema, value: Any, definitions: Definitions, path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Returns the value with each quantity in another spelling."""
    type_, schema = resolved(schema, definitions)
    if type_ == QUANTITY:
        milli = thousandths(value)
        yield from ((f"{path}: {how}", spell(milli)) for how, spell in RESPELLED.items())
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for what, new in respellings(schema["items"], item, definitions, f"{path}[{index}]"):
                yield what, [*value[:index], new, *value[index + 1 :]]
    elif isinstance(value, dict):
        children = schema.get("properties", {})
        for key, item in value.items():
            child = children.get(key) or schema.get("additionalProperties")
            if child:
                for what, new in respellings(child, item, definitions, f"{path}.{key}"):
                    yield what, value | {key: new}


def thousandths(quantity: Any) -> int:
    """Returns a quantity in thousandths, rounded up, as parsed by the official client."""
    exact: Decimal = parse_quantity(quantity)
    return -int(-exact * 1000 // 1)
