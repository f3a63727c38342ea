"""The schemas of a Pod template and of a container's status, as a CRD can carry them.

They are made from the OpenAPI document that an API server publishes for core/v1. A CRD wants a
*structural* schema: no references, one type a node, and fewer keywords. And it is to refuse what
the API server would refuse of a Pod, never more: where the published schema says more than the API
server holds a Pod to, it gives way.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Schema = dict[str, Any]
Definitions = Mapping[str, Schema]

_REFERENCE: Final = "#/components/schemas/"
_CORE: Final = "io.k8s.api.core.v1."
_MACHINERY: Final = "io.k8s.apimachinery.pkg."

_KEPT: Final = frozenset(
    {
        "additionalProperties",
        "description",
        "enum",
        "format",
        "items",
        "not",
        "maxItems",
        "maxProperties",
        "minItems",
        "minProperties",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
    }
)
_DROPPED: Final = frozenset(
    {
        # Mostly zero values, which say nothing; the others would change what a person wrote.
        "default",
        # Strategic merge patches do not exist for custom resources.
        "x-kubernetes-patch-merge-key",
        "x-kubernetes-patch-strategy",
        "x-kubernetes-unions",
    }
)

QUANTITY: Final[Schema] = {
    "x-kubernetes-preserve-unknown-fields": True,
}


def pod_template_schema(definitions: Definitions) -> Schema:
    """core/v1 PodTemplateSpec."""
    return _structural(_inlined({"$ref": f"{_REFERENCE}{_CORE}PodTemplateSpec"}, definitions))


def container_status_schema(definitions: Definitions) -> Schema:
    """core/v1 ContainerStatus"""
    schema = _structural(_inlined({"$ref": f"{_REFERENCE}{_CORE}ContainerStatus"}, definitions))
    return _open(schema) | {"required": ["name"]}


_LEAVES: Final[Definitions] = {
    f"{_MACHINERY}api.resource.Quantity": QUANTITY,
    f"{_MACHINERY}util.intstr.IntOrString": {"x-kubernetes-int-or-string": True},
    f"{_MACHINERY}apis.meta.v1.FieldsV1": {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    },
}


def _inlined(node: Schema, definitions: Definitions) -> Schema:
    reference = _reference(node)
    if reference is None:
        return with_children(node, lambda child: _inlined(child, definitions))
    own = {keyword: value for keyword, value in node.items() if keyword not in ("$ref", "allOf")}
    definition = _LEAVES.get(reference) or _inlined(definitions[reference], definitions)
    return definition | own


def _reference(node: Schema) -> str | None:
    [inner] = node.get("allOf", [node])
    reference: str | None = inner.get("$ref")
    return reference and reference.removeprefix(_REFERENCE)


def _structural(node: Schema) -> Schema:
    unknown = node.keys() - _KEPT - _DROPPED
    if unknown:
        raise ValueError(f"no rule for {', '.join(sorted(unknown))}")
    schema = {keyword: value for keyword, value in node.items() if keyword in _KEPT}
    if "description" in schema:
        schema["description"] = first_sentence(schema["description"])
    return with_children(schema, _structural)


def _open(schema: Schema) -> Schema:
    return schema


def with_children(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {k: change(v) for k, v in schema["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            changed[keyword] = change(schema[keyword])
    return changed


_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bEx)(?<=[a-z0-9)\"'`\]A-Z])[.!?](?=\s+[A-Z]|\s*$)")

def first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    end=_END.search(paragraph)
    return paragraph[:end.end()] if end else paragraph
