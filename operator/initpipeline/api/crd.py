"""Builds the CustomResourceDefinition from the models and from an API server's schema of core/v1.

This module is pure: ``crds/generate.py`` reads the OpenAPI document of an API server and writes the
file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.models import NOT_OBSERVED, InitPipeline
from initpipeline.api.podtemplate import (
    MOST_NESTED,
    Definitions,
    Schema,
    container_status_schema,
    keywords,
    pod_template_schema,
    with_children,
    without,
)

Meanings = Mapping[str, Mapping[str, str]]
"""Maps the name of an enumeration to the meanings of its values."""

LIST_KEYS: Final = {
    "conditions": "type",
    "initPolicies": "name",
}
"""Keys of the lists of type map: each key is unique, and server-side apply merges items by it."""

_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_WIDE: Final = 1
PRINTER_COLUMNS: Final[list[Schema]] = [
    {"name": "Ready", "type": "string", "jsonPath": f"{_READY}.status"},
    {"name": "Init", "type": "string", "jsonPath": ".status.initProgress"},
    {"name": "Step", "type": "string", "jsonPath": ".status.currentStep"},
    {"name": "Runs", "type": "integer", "jsonPath": ".status.run.number"},
    {"name": "Reason", "type": "string", "jsonPath": f"{_READY}.reason"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Pod", "type": "string", "jsonPath": ".status.podName", "priority": _WIDE},
    {"name": "Node", "type": "string", "jsonPath": ".status.nodeName", "priority": _WIDE},
    {"name": "Trigger", "type": "string", "jsonPath": ".status.run.trigger", "priority": _WIDE},
]

_KEPT: Final = frozenset(
    {
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maximum",
        "maxLength",
        "minimum",
        "minLength",
        "properties",
        "required",
        "type",
    }
)
_DROPPED: Final = frozenset({"title", "$defs", "$ref", "anyOf"})

_TEMPLATE: Final = ("properties", "spec", "properties", "template")
_INIT_POLICIES: Final = ("properties", "spec", "properties", "initPolicies")
_POD_SPEC: Final = (*_TEMPLATE, "properties", "spec")
_STATUS: Final = ("properties", "status")
_OBSERVED: Final = (*_STATUS, "properties", "observedGeneration")
_CONDITION_STATUS: Final = (
    *_STATUS,
    *("properties", "conditions", "items", "properties", "status"),
)
CONDITION_STATUSES: Final = ["True", "False", "Unknown"]
"""The values of metav1.ConditionStatus, to which no version adds any."""
_MIRROR: Final = (*_STATUS, "properties", "initContainerStatuses", "items")
_METADATA: Final[Schema] = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "maxLength": names.MAX_NAME_LENGTH,
            "description": "Name of the InitPipeline and of its Pod. It is also the value of a "
            "label, so it has at most 63 characters.",
        }
    },
}
_CONTAINER_LISTS: Final = ("containers", "initContainers")


_LINE_BREAK: Final = re.compile(r"\n(?!\n|- )[ ]*")
"""A line break within a paragraph. ``kubectl explain`` wraps lines itself."""


def custom_resource_definition(core: Definitions, meanings: Meanings) -> dict[str, Any]:
    """Returns the CRD. ``core`` has the definitions that an API server publishes for core/v1."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": PRINTER_COLUMNS,
                    "schema": {"openAPIV3Schema": resource_schema(core, meanings)},
                }
            ],
        },
    }


def resource_schema(core: Definitions, meanings: Meanings) -> Schema:
    """Returns the schema of an InitPipeline. The API server adds apiVersion, kind and the rest of
    metadata. The schema limits metadata.name to names.MAX_NAME_LENGTH, even if the API server makes
    it from generateName."""
    schema = model_schema(InitPipeline.model_json_schema(), meanings)
    schema = _changed_at(_STATUS, schema, lambda item: _open(item) | {"default": {}})
    schema = _changed_at(
        _CONDITION_STATUS, schema, lambda item: item | {"enum": CONDITION_STATUSES}
    )
    schema = _changed_at(_OBSERVED, schema, lambda item: item | {"default": NOT_OBSERVED})
    schema = _changed_at(_MIRROR, schema, lambda _: container_status_schema(core))
    schema = with_list_keys(schema)
    schema = _changed_at(_STATUS, schema, with_atomic_fields)
    schema = _changed_at(
        _TEMPLATE,
        schema,
        lambda item: pod_template_schema(core) | {"description": item["description"]},
    )
    # Each item names a different init container.
    schema = _changed_at(_INIT_POLICIES, schema, lambda item: item | {"maxItems": MOST_NESTED})
    schema = _changed_at(_TEMPLATE, schema, lambda template: _requiring(template, "spec"))
    schema = _changed_at(_POD_SPEC, schema, lambda spec: _requiring(spec, *_CONTAINER_LISTS))
    return _changed_at(("properties",), schema, lambda fields: {"metadata": _METADATA} | fields)


def model_schema(schema: Schema, meanings: Meanings) -> Schema:
    """Returns the structural form of a pydantic model's JSON schema. The description of a field
    with an enumeration lists the meanings of its values."""
    definitions = {
        name: _with_meanings(definition, meanings[name]) if name in meanings else definition
        for name, definition in schema.get("$defs", {}).items()
    }
    return _structural(schema, definitions)


def with_list_keys(schema: Schema) -> Schema:
    """Returns the schema with the lists of LIST_KEYS marked as lists of type map."""
    keyed = with_children(schema, with_list_keys)
    for name, key in LIST_KEYS.items():
        if name in keyed.get("properties", {}):
            keyed["properties"][name] |= _list_by(key, keyed["properties"][name]["items"])
    return keyed


def with_atomic_fields(status: Schema) -> Schema:
    """Returns the schema of a status in which each list and object without a key is atomic.

    Only the operator writes them, so nothing is gained by an owner per field. Without this, the API
    server compares and stores managedFields for each nested field with each write of the status.
    """
    properties = {name: _atomic(field) for name, field in status["properties"].items()}
    return status | {"properties": properties}


def _atomic(field: Schema) -> Schema:
    if field["type"] == "array" and "x-kubernetes-list-type" not in field:
        return field | {"x-kubernetes-list-type": "atomic"}
    return field | {"x-kubernetes-map-type": "atomic"} if field["type"] == "object" else field


def _list_by(key: str, item: Schema) -> Schema:
    if key not in item.get("required", ()):
        raise ValueError(f"a list can't be keyed by {key}, which its items need not have")
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _with_meanings(definition: Schema, meanings: Mapping[str, str]) -> Schema:
    """Returns the definition of an enumeration with its values as its description."""
    values = [f"- {value}: {meanings[value]}" for value in definition["enum"]]
    return definition | {"description": "\n".join(values)}


def _structural(node: Schema, definitions: Definitions) -> Schema:
    """Returns the node in structural form, with references replaced by their definitions."""
    own = keywords(node, _KEPT, _DROPPED)
    if "description" in own:
        own["description"] = _LINE_BREAK.sub(" ", own["description"])
    # A default of None or () has the effect of an absent field.
    if not isinstance(own.get("default"), str | int):
        own.pop("default", None)
    if own.get("additionalProperties") is True:
        del own["additionalProperties"]
        own["x-kubernetes-preserve-unknown-fields"] = True
    target = _target(node, definitions)
    if target:
        return _described(_structural(target, definitions), own)
    return with_children(own, lambda child: _structural(child, definitions))


def _described(type_: Schema, field: Schema) -> Schema:
    """Returns the schema of a field of this type. The description of the field precedes the values
    of an enumeration, and replaces the description of any other type."""
    described = type_ | field
    if "enum" in type_ and "description" in type_ and "description" in field:
        described["description"] = f"{field['description']}\n{type_['description']}"
    return described


def _target(node: Schema, definitions: Definitions) -> Schema | None:
    """Returns the definition that the node refers to, or the type of a value that may be null.
    None: the node is neither."""
    if "$ref" in node:
        return definitions[node["$ref"].rpartition("/")[2]]
    alternatives = [one for one in node.get("anyOf", ()) if one != {"type": "null"}]
    if len(alternatives) > 1:
        raise ValueError(f"a structural schema has one type a node, not {alternatives}")
    return alternatives[0] if alternatives else None


def _changed_at(path: Sequence[str], schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Returns the schema with the change applied to the schema at this path."""
    if not path:
        return change(schema)
    return schema | {path[0]: _changed_at(path[1:], schema[path[0]], change)}


def _requiring(schema: Schema, *fields: str) -> Schema:
    """Returns the schema of an object in which these fields are required and lists among them have
    at least one item."""
    others = [name for name in schema.get("required", ()) if name not in fields]
    properties = {
        name: field | {"minItems": 1} if name in fields and field.get("type") == "array" else field
        for name, field in schema["properties"].items()
    }
    return schema | {"properties": properties, "required": [*others, *fields]}


def _open(schema: Schema) -> Schema:
    """Returns the schema of a status, without defaults. So a status holds only what the operator
    wrote, and the defaults that resource_schema adds later. An enumeration accepts further values,
    because a newer operator may know more of them. Its description has those that this version
    knows."""
    bare = without(schema, {"default", "enum"})
    if "enum" in schema:
        bare |= {"minLength": 1, "maxLength": names.MAX_IDENTIFIER_LENGTH}
    return with_children(bare, _open)
