"""Builds the schemas of a Pod template and of a container's status for a CRD.

The source is the OpenAPI document that an API server publishes for core/v1. A CRD needs a
*structural* schema: no references, one type per node, fewer keywords. The schema must reject only
templates that the API server rejects in a Pod. In some fields the published schema is stricter than
the API server. For those fields this module relaxes the rule. tests/contract/test_crd.py compares
the CRD with the API server.

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
        # Most are the zero value. Any other would change the template that the user wrote.
        "default",
        # Custom resources support neither strategic merge patches nor unions.
        "x-kubernetes-patch-merge-key",
        "x-kubernetes-patch-strategy",
        "x-kubernetes-unions",
        # Replaced by the definitions that they refer to.
        "$ref",
        "allOf",
    }
)

# A structural schema cannot express "a string or a number". x-kubernetes-preserve-unknown-fields
# allows any type. The bounds exclude lists and objects (the minimum is above the maximum), and the
# enum excludes booleans.
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
"""Types whose published schema cannot be converted keyword by keyword."""

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
"""Published as required, although the API server accepts a Pod without it."""

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
"""Published as lists with unique keys, although the API server accepts a Pod with duplicates."""

MOST_NESTED: Final = 500
"""Maximum number of items of a list whose items have lists, such as containers. The admission
policy counts the items of the inner lists, so its cost grows with the number of outer items."""

_REPLACED: Final[Definitions] = {
    # It has no effect, and JSON of any size and depth is valid.
    "ObjectMeta.managedFields": {
        "description": "Must be empty. The API server sets it in an object, not in a template.",
        "type": "array",
        "maxItems": 0,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
    # The field is a sixth of the whole schema, and no Pod can be created with it.
    "PodSpec.ephemeralContainers": {
        "description": "Must be empty. Ephemeral containers can only be added to an existing Pod.",
        "type": "array",
        "maxItems": 0,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}

# A full stop ends a sentence if a capital letter, a list or a URL follows. After an abbreviation
# that is rare.
# A sentence has at least two terms, so that "Required." alone is not one.
_SENTENCE_END: Final = re.compile(r"(?<=\s\S)\S*(?<!\be\.g)(?<!\bi\.e)[.!?](?=\s+([A-Z]|- |http))")

_MARK: Final = re.compile(r"(?:\w+ is )?[Oo]ptional: ")
"""The start of the description of an optional field. ``kubectl explain`` marks required fields."""
_LINK: Final = re.compile(r"\s+More info: http\S+$")
_SUBJECT: Final = re.compile(
    r"(\w+) (?:is|are|represents|specif(?:y|ies)|indicates|defines|describes|contains|lists?|"
    r"holds?|provides|controls|determines) (?=(?:the|an?|all|whether|how|what|which|name|number)\b)"
)
"""A field's name and its verb, before a noun phrase or a question that needs neither."""


def pod_template_schema(definitions: Definitions) -> Schema:
    """Returns the complete schema of core/v1 PodTemplateSpec. Lists whose items have lists are
    limited to MOST_NESTED items."""
    return _bounded(_definition(f"{CORE}PodTemplateSpec", definitions))


def container_status_schema(definitions: Definitions) -> Schema:
    """Returns the schema of core/v1 ContainerStatus for a mirror of any kubelet's statuses.

    It rejects and prunes nothing: unknown fields and values are kept, and only the name is
    required.
    """
    return _lenient(_definition(f"{CORE}ContainerStatus", definitions)) | {"required": ["name"]}


def first_sentence(text: str) -> str:
    """Returns the first sentence of a description, on one line."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    end = _SENTENCE_END.search(paragraph)
    return _LINK.sub("", paragraph[: end.end()] if end else paragraph)


def without_subject(name: str, description: str) -> str:
    """Returns the description of a field without its name at the start: ``kubectl explain`` shows
    the name anyway, and the CRD is limited in size.

    "medium represents what type of storage medium ..." becomes "What type of storage medium ...",
    and "Optional: Host name ..." becomes "Host name ...".
    """
    short = _MARK.sub("", description, count=1) if _MARK.match(description) else description
    subject = _SUBJECT.match(short)
    if subject is not None and subject[1].lower() == name.lower():
        short = short[subject.end() :]
    return description if short == description else short[0].upper() + short[1:]


def keywords(node: Schema, kept: Set[str], dropped: Set[str]) -> Schema:
    """Returns the node with the ``kept`` keywords only.

    Raises ValueError for a keyword that is in neither set.
    """
    unknown = node.keys() - kept - dropped
    if unknown:
        raise ValueError(f"no rule for the keywords {', '.join(sorted(unknown))} in a CRD")
    return without(node, node.keys() - kept)


def without(schema: Schema, dropped: Set[str]) -> Schema:
    """Returns the schema without these keywords."""
    return {keyword: value for keyword, value in schema.items() if keyword not in dropped}


def with_children(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Returns the schema with the change applied to each schema directly below it."""
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {name: change(one) for name, one in schema["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            changed[keyword] = change(schema[keyword])
    return changed


def has_lists(schema: Schema) -> bool:
    """Returns whether an object of this schema has lists or maps."""
    children = schema.get("properties", {}).values()
    return "items" in schema or "additionalProperties" in schema or any(map(has_lists, children))


def _bounded(schema: Schema) -> Schema:
    bounded = with_children(schema, _bounded)
    if "maxItems" not in schema and has_lists(schema.get("items", {})):
        bounded["maxItems"] = MOST_NESTED
    return bounded


def _definition(name: str, definitions: Definitions) -> Schema:
    """Returns a definition in structural form, no stricter than the API server is for a Pod."""
    if name in _LEAVES:
        return _LEAVES[name]
    return _relaxed(name.rpartition(".")[2], _structural(definitions[name], definitions))


def _structural(node: Schema, definitions: Definitions) -> Schema:
    """Returns the node in structural form, with references replaced by their definitions."""
    own = keywords(node, _KEPT, _DROPPED)
    if "description" in own:
        own["description"] = first_sentence(own["description"])
    reference = _reference(node)
    if reference:
        # The description of a field takes precedence over that of its type.
        return _definition(reference, definitions) | own
    structural = with_children(own, lambda child: _structural(child, definitions))
    for name, field in structural.get("properties", {}).items():
        if "description" in field:
            short = without_subject(name, field["description"])
            structural["properties"][name] = field | {"description": short}
    return structural


def _reference(node: Schema) -> str | None:
    """Returns the name of the definition that a node refers to, itself or as allOf's only member.
    None: it does not refer to one."""
    [target] = node.get("allOf", [node])
    reference: str = target.get("$ref", "")
    return reference.rpartition("/")[2] or None


def _relaxed(type_: str, schema: Schema) -> Schema:
    """Returns the schema of an object, no stricter than the API server is for a Pod."""
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
        # The API server treats "" like an absent field. Templating tools write it.
        return field | {"enum": ["", *field["enum"]]}
    return field


def _relaxed_list(field: Schema, may_repeat: bool) -> Schema:
    if field.get("x-kubernetes-list-type") == "map" and not may_repeat:
        return field
    # Without these keywords the list is atomic. The API server decodes null as the zero value.
    plain = without(field, {"x-kubernetes-list-type", "x-kubernetes-list-map-keys"})
    return plain | {"items": field["items"] | {"nullable": True}}


def _lenient(schema: Schema) -> Schema:
    """Returns the schema without the rules that would reject or prune a value."""
    strict = {"enum", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
    lenient = without(schema, strict)
    if "properties" in lenient:
        lenient["x-kubernetes-preserve-unknown-fields"] = True
    return with_children(lenient, _lenient)
