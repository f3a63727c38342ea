"""Reduces the memory that a parsed API object takes until core.facts reads it. core.facts reads the
same values from the compacted object.

Parsed, an object takes ten times the memory of its JSON, and a page of a list has many objects. So
a large Pod is reduced to the fields that decisions need. The template of a large InitPipeline is
compressed.
"""

import base64
import zlib
from collections.abc import Mapping
from typing import Any, Final

from initpipeline.core import lenient
from initpipeline.core.encoding import encode
from initpipeline.core.facts import (
    COMPACT,
    CONTAINER_FIELDS,
    SPEC_FIELDS,
    field_without_name,
    without_template,
)

_POD_SPEC: Final = frozenset({"nodeName", "schedulingGates", *SPEC_FIELDS})
_CONTAINER: Final = frozenset(CONTAINER_FIELDS)


def compact(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the object, compacted if it is an InitPipeline, a Pod or a PartialObjectMetadata."""
    spec = lenient.mapping(raw.get("spec"))
    if "template" in spec:
        # A template that cannot be read is kept, so that core.facts reports the problem.
        unreadable = field_without_name(spec["template"]) is not None
        return _without_ownership(raw) if unreadable else _pipeline(raw, spec)
    if "containers" in spec:
        return _pod(raw, spec)
    return _without_ownership(raw) if "metadata" in raw else raw


def _pipeline(raw: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    written = encode(spec["template"])
    size = len(written) + len(encode(without_template(raw)))
    zipped = base64.b64encode(zlib.compress(written, 1)).decode()
    return {
        **_without_ownership(raw),
        "spec": {**spec, "template": None},
        COMPACT: {"template": zipped, "size": size},
    }


def _pod(raw: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {field: spec[field] for field in _POD_SPEC & spec.keys()}
    for containers in ("initContainers", "containers"):
        kept[containers] = [
            {field: container[field] for field in _CONTAINER & container.keys()}
            for container in lenient.mappings(spec.get(containers))
        ]
    return {**_without_ownership(raw), "spec": kept}


def _without_ownership(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the object without managedFields, which can be as large as all other fields."""
    metadata = dict(lenient.mapping(raw.get("metadata")))
    metadata.pop("managedFields", None)
    return {**raw, "metadata": metadata}
