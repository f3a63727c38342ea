"""Reduces the memory that a parsed API object takes until it is read as a Pipeline or Pod.

The same values are read from the compacted object.

Parsed, an object takes ten times the memory of its JSON, and a page of a list has many objects. So
a large Pod is reduced to the fields that decisions need. The template of a large InitPipeline is
compressed.
"""

import base64
from collections.abc import Mapping
from typing import Any

from initpipeline.core import lenient
from initpipeline.core.containers import read_fields
from initpipeline.core.facts import COMPACT, list_with_unnamed_container, zipped_template


def compact(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the object, compacted if it is an InitPipeline, a Pod or a PartialObjectMetadata."""
    spec = lenient.mapping(raw.get("spec"))
    if "template" in spec:
        # A template that cannot be read is kept, so that the reader reports the problem.
        unreadable = list_with_unnamed_container(spec["template"]) is not None
        return _without_managed_fields(raw) if unreadable else _pipeline(raw)
    if "containers" in spec:
        kept = read_fields(spec, "nodeName", "schedulingGates")
        return {**_without_managed_fields(raw), "spec": kept}
    return _without_managed_fields(raw) if "metadata" in raw else raw


def _pipeline(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    zipped, size = zipped_template(raw)
    return {
        **_without_managed_fields(raw),
        "spec": {**raw["spec"], "template": None},
        COMPACT: {"template": base64.b64encode(zipped).decode(), "size": size},
    }


def _without_managed_fields(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the object without managedFields, which can be as large as all other fields."""
    metadata = dict(lenient.mapping(raw.get("metadata")))
    metadata.pop("managedFields", None)
    return {**raw, "metadata": metadata}
