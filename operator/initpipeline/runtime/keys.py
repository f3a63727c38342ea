"""The key of a pipeline and its Pod, and the keys that a list of them has."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from initpipeline.core.facts import PipelineMetadata


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Namespace and name, which an InitPipeline and its Pod share."""

    namespace: str
    name: str

    @classmethod
    def of(cls, pipeline: PipelineMetadata) -> "Key":
        """Returns the key of an InitPipeline."""
        return cls(pipeline.namespace, pipeline.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(raw: Mapping[str, Any]) -> Key:
    """Returns the key of an API object."""
    # Thousands of keys share one string for their namespace.
    return Key(sys.intern(raw["metadata"]["namespace"]), raw["metadata"]["name"])


class Kind(Enum):
    """The kinds that the operator watches."""

    PIPELINE = "InitPipeline"
    POD = "Pod"


@dataclass(frozen=True, slots=True)
class ObjectUIDs:
    """The UIDs of the listed objects of a kind at a resource version."""

    uids: Mapping[Key, str]
    version: int
    versions: Mapping[Key, int] = field(default_factory=dict)
    """The resource version of each object."""


class ListedObjects:
    """Collects what a list has, page by page."""

    def __init__(self) -> None:
        self._uids: dict[Key, str] = {}
        self._versions: dict[Key, int] = {}

    def add(self, key: Key, raw: Mapping[str, Any]) -> None:
        """Add an object of the list."""
        self._uids[key] = raw["metadata"]["uid"]
        self._versions[key] = int(raw["metadata"]["resourceVersion"])

    def at(self, version: str) -> ObjectUIDs:
        """Returns the whole list, which has this resource version."""
        return ObjectUIDs(self._uids, int(version), self._versions)
