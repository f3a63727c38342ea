"""The CustomResourceDefinition, made from the models and from core/v1 as an API server has it.

Pure: ``crds/generate.py`` asks an API server for the OpenAPI document and writes the file.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.models import NOT_OBSERVED, InitPipeline
from initpipeline.api.podtemplate import (
    Definitions,
    Schema,
    container_status_schema,
    keywords,
    pod_template_schema,
    with_children,
)

LIST_KEYS: Final = {
    "conditions": "type",
    "initContainerStatuses": "name",
    "history": "number",
    "completedInitContainers": "name",
    "restartBaselines": "name",
    "initRestartBaselines": "name",
    "initPolicies": "name",
}
"""Lists of named things: each name once, and server-side apply merges them by it."""

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
_POD_SPEC: Final = (*_TEMPLATE, "properties", "spec")
_STATUS: Final = ("properties", "status")
_OBSERVED: Final = (*_STATUS, "properties", "observedGeneration")
_MIRROR: Final = (*_STATUS, "properties", "initContainerStatuses", "items")
_METADATA: Final[Schema] = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "maxLength": names.MAX_NAME_LENGTH,
            "description": "Name of the InitPipeline and of its Pod: a label's value, too.",
        }
    },
}
_CONTAINER_LISTS: Final = ("containers", "initContainers")


def custom_resource_definition(core: Definitions) -> dict[str, Any]:
    """The CRD; `core` are the definitions that an API server publishes for core/v1."""
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
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": PRINTER_COLUMNS,
                    "schema": {"openAPIV3Schema": resource_schema(core)},
                }
            ],
        },
    }


def resource_schema(core: Definitions) -> Schema:
    """The schema of an InitPipeline; apiVersion, kind and the rest of metadata are the API server's
    to add. A generated name is never longer than names.MAX_NAME_LENGTH."""
    schema = model_schema(InitPipeline.model_json_schema())
    schema = _changed_at(_STATUS, schema, lambda item: _without_defaults(item) | {"default": {}})
    schema = _changed_at(_OBSERVED, schema, lambda item: item | {"default": NOT_OBSERVED})
    schema = _changed_at(_MIRROR, schema, lambda item: container_status_schema(core) | _said(item))
    schema = with_list_keys(schema)
    schema = _changed_at(_TEMPLATE, schema, lambda item: pod_template_schema(core) | _said(item))
    schema = _changed_at(_TEMPLATE, schema, lambda template: _needing(template, "spec"))
    schema = _changed_at(_POD_SPEC, schema, lambda spec: _needing(spec, *_CONTAINER_LISTS))
    return _changed_at(("properties",), schema, lambda fields: {"metadata": _METADATA} | fields)


def model_schema(schema: Schema) -> Schema:
    """The JSON schema of a pydantic model in structural form."""
    return _structural(schema, schema.get("$defs", {}))


def with_list_keys(schema: Schema) -> Schema:
    """The schema with the lists of LIST_KEYS marked as such."""
    keyed = with_children(schema, with_list_keys)
    for name, key in LIST_KEYS.items():
        if name in keyed.get("properties", {}):
            keyed["properties"][name] |= _list_by(key, keyed["properties"][name]["items"])
    return keyed


def _list_by(key: str, item: Schema) -> Schema:
    if key not in item.get("required", ()):
        raise ValueError(f"a list can't be keyed by {key}, which its items need not have")
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _structural(node: Schema, definitions: Definitions) -> Schema:
    """A node in structural form, references replaced by what they refer to."""
    own = keywords(node, _KEPT, _DROPPED)
    if not isinstance(own.get("default"), str | int):  # None, () and the like: as if absent
        own.pop("default", None)
    if own.get("additionalProperties") is True:
        del own["additionalProperties"]
        own["x-kubernetes-preserve-unknown-fields"] = True
    meant = _meant(node, definitions)
    if meant:
        # What is said where a model is used wins over what the model says of itself.
        return _structural(meant, definitions) | own
    return with_children(own, lambda child: _structural(child, definitions))


def _meant(node: Schema, definitions: Definitions) -> Schema | None:
    """What a reference refers to, or what an optional value is when it is there."""
    if "$ref" in node:
        return definitions[node["$ref"].rpartition("/")[2]]
    alternatives = [one for one in node.get("anyOf", ()) if one != {"type": "null"}]
    if len(alternatives) > 1:
        raise ValueError(f"a structural schema has one type a node, not {alternatives}")
    return alternatives[0] if alternatives else None


def _changed_at(path: Sequence[str], schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """The schema, changed at one place below it."""
    if not path:
        return change(schema)
    return schema | {path[0]: _changed_at(path[1:], schema[path[0]], change)}


def _needing(schema: Schema, *fields: str) -> Schema:
    """The schema of an object which must have these fields, and in a list at least one item."""
    others = [name for name in schema.get("required", ()) if name not in fields]
    properties = {
        name: field | {"minItems": 1} if name in fields and field.get("type") == "array" else field
        for name, field in schema["properties"].items()
    }
    return schema | {"properties": properties, "required": [*others, *fields]}


def _said(schema: Schema) -> Schema:
    """The model's own description, if it has one."""
    return {keyword: schema[keyword] for keyword in ("description",) if keyword in schema}


def _without_defaults(schema: Schema) -> Schema:
    """The schema of a status, which is to hold what the operator wrote."""
    bare = {keyword: value for keyword, value in schema.items() if keyword != "default"}
    return with_children(bare, _without_defaults)
