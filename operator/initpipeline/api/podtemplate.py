"""The schemas of a Pod template and of a container's status, as a CRD can carry them.

They are made from the OpenAPI document that an API server publishes for core/v1. A CRD needs a
*structural* schema: no references, one type a node, fewer keywords. It is to refuse what the API
server would refuse of a Pod and nothing else, so where the published schema asks for more than the
API server does, it gives way: tests/contract/test_crd.py holds the one against the other.

See https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

import re
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

Schema = dict[str, Any]
Definitions = Mapping[str, Schema]
"""Schemas by name, as in ``components.schemas`` of an OpenAPI document."""

CORE: Final = "io.k8s.api.core.v1."
MACHINERY: Final = "io.k8s.apimachinery.pkg."

_KEPT: Final = frozenset(
    {
        "additionalProperties",
        "description",
        "enum",
        "format",
        "items",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
    }
)
_DROPPED: Final = frozenset(
    {
        # Mostly the zero value, which says nothing; any other would change what a person wrote.
        "default",
        # Custom resources know neither strategic merge patches nor unions.
        "x-kubernetes-patch-merge-key",
        "x-kubernetes-patch-strategy",
        "x-kubernetes-unions",
        # Replaced by what they refer to.
        "$ref",
        "allOf",
    }
)

# A structural schema can't say "a string or a number": a node has one type or, by this extension,
# any. So the other types are excluded, each by bounds that no value of it can meet.
QUANTITY: Final[Schema] = {
    "x-kubernetes-preserve-unknown-fields": True,
    "pattern": r"^\s*[+-]?[0-9.]+([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?\s*$",
    "not": {"enum": [True, False]},
    "minItems": 1,
    "maxItems": 0,
    "minProperties": 1,
    "maxProperties": 0,
}
_LEAVES: Final[Definitions] = {
    f"{MACHINERY}api.resource.Quantity": QUANTITY,
    f"{MACHINERY}util.intstr.IntOrString": {"x-kubernetes-int-or-string": True},
    f"{MACHINERY}apis.meta.v1.FieldsV1": {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    },
}
"""Types whose published schema can't be made structural keyword by keyword."""

_OPTIONAL: Final = frozenset(
    {
        "HTTPHeader.value",
        "ISCSIVolumeSource.lun",
        "PreferredSchedulingTerm.preference",
        "ScaleIOVolumeSource.secretRef",
        "SleepAction.seconds",
        "Sysctl.value",
    }
)
"""Published as required, but a Pod without it is accepted: the zero value will do."""

_MAY_REPEAT: Final = frozenset(
    {
        "Container.env",
        "Container.ports",
        "ObjectMeta.ownerReferences",
        "PodSpec.hostAliases",
        "PodSpec.imagePullSecrets",
        "ResourceRequirements.claims",
    }
)
"""Published as lists of distinct things, but a Pod that names one twice is accepted."""

_REPLACED: Final[Definitions] = {
    # A sixth of the whole schema, for a field that no Pod can be created with.
    "PodSpec.ephemeralContainers": {
        "description": "Must be empty: ephemeral containers are added to a Pod that runs.",
        "type": "array",
        "maxItems": 0,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}

# After the end of a sentence comes a capital, or else a list or an address: so an abbreviation
# hardly ever looks like one. And a sentence has more than one word: "Required." alone says nothing.
_SENTENCE_END: Final = re.compile(r"(?<=\s\S)\S*(?<!\be\.g)(?<!\bi\.e)[.!?](?=\s+([A-Z]|- |http))")


def pod_template_schema(definitions: Definitions) -> Schema:
    """The schema of core/v1 PodTemplateSpec, whole."""
    return _definition(f"{CORE}PodTemplateSpec", definitions)


def container_status_schema(definitions: Definitions) -> Schema:
    """The schema of core/v1 ContainerStatus, for a mirror of what any kubelet may say.

    Nothing is refused or pruned: fields and values that the schema does not know are kept, and
    only the name is required.
    """
    return _lenient(_definition(f"{CORE}ContainerStatus", definitions)) | {"required": ["name"]}


def first_sentence(text: str) -> str:
    """The first sentence, on one line: what a field is. The rest explains."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    end = _SENTENCE_END.search(paragraph)
    return paragraph[: end.end()] if end else paragraph


def keywords(node: Schema, kept: Set[str], dropped: Set[str]) -> Schema:
    """The keywords of a node that are kept; one that nobody has thought about is an error."""
    unknown = node.keys() - kept - dropped
    if unknown:
        raise ValueError(f"no rule says what a CRD makes of {', '.join(sorted(unknown))}")
    return without(node, node.keys() - kept)


def without(schema: Schema, dropped: Set[str]) -> Schema:
    """The same schema, some keywords of it left out."""
    return {keyword: value for keyword, value in schema.items() if keyword not in dropped}


def with_children(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """The same schema, each of the schemas directly below it changed."""
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {name: change(one) for name, one in schema["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            changed[keyword] = change(schema[keyword])
    return changed


def _definition(name: str, definitions: Definitions) -> Schema:
    """A definition in structural form, asking for no more than the API server does of a Pod."""
    if name in _LEAVES:
        return _LEAVES[name]
    return _relaxed(name.rpartition(".")[2], _structural(definitions[name], definitions))


def _structural(node: Schema, definitions: Definitions) -> Schema:
    """A node in structural form, a reference replaced by what it refers to."""
    own = keywords(node, _KEPT, _DROPPED)
    if "description" in own:
        own["description"] = first_sentence(own["description"])
    reference = _reference(node)
    if reference:
        # What is said where a type is used wins over what the type says of itself.
        return _definition(reference, definitions) | own
    return with_children(own, lambda child: _structural(child, definitions))


def _reference(node: Schema) -> str | None:
    """The name of the definition that a node is: referred to plainly, or as allOf's only member."""
    [target] = node.get("allOf", [node])
    reference: str = target.get("$ref", "")
    return reference.rpartition("/")[2] or None


def _relaxed(type_: str, schema: Schema) -> Schema:
    """The schema of an object, its fields' rules eased where the API server is easier."""
    if "properties" not in schema:
        return schema
    required = [name for name in schema.get("required", ()) if f"{type_}.{name}" not in _OPTIONAL]
    properties = {
        name: _relaxed_field(f"{type_}.{name}", field, optional=name not in required)
        for name, field in schema["properties"].items()
    }
    relaxed = without(schema, {"required"}) | {"properties": properties}
    return relaxed | {"required": required} if required else relaxed


def _relaxed_field(path: str, field: Schema, optional: bool) -> Schema:
    if path in _REPLACED:
        return _REPLACED[path]
    if "items" in field:
        return _relaxed_list(field, path in _MAY_REPEAT)
    if optional and "" not in field.get("enum", [""]):
        return field | {
            "enum": ["", *field["enum"]]
        }  # as if absent: templating leaves many of them
    return field


def _relaxed_list(field: Schema, may_repeat: bool) -> Schema:
    if field.get("x-kubernetes-list-type") == "map" and not may_repeat:
        return field
    # What is left is atomic, as every list is unless said otherwise; null is the zero value.
    plain = without(field, {"x-kubernetes-list-type", "x-kubernetes-list-map-keys"})
    return plain | {"items": field["items"] | {"nullable": True}}


def _lenient(schema: Schema) -> Schema:
    """A schema that describes the same and refuses and prunes nothing of it."""
    strict = {"enum", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
    lenient = without(schema, strict)
    if "properties" in lenient:
        lenient["x-kubernetes-preserve-unknown-fields"] = True
    return with_children(lenient, _lenient)
