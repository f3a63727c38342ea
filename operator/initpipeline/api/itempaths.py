"""Counts the list items and map entries of a Pod template.

The paths of its lists and maps are those of podlists.py. A list within the items of a list has the
path "volumes[].projected.sources".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from initpipeline.api.podlists import LISTS

MOST_ITEMS: Final = 1500
"""Maximum number of list items and map entries of a template, in total."""


@dataclass(slots=True)
class _Field:
    """A field of a template that is or contains a list or map."""

    counted: bool = False
    """The field is a list or map. If not, it is an object."""
    inner: "dict[str, _Field]" = field(default_factory=dict)
    """The fields of the object, or of each item of the list."""


def number_of_items(template: Mapping[str, Any]) -> int:
    """Returns the number of list items and map entries of a Pod template, in total."""
    return _count(template, _template())


@cache
def _template() -> dict[str, _Field]:
    root = _Field()
    for path in LISTS:
        node = root
        for name in path.replace("[]", "").split("."):
            node = node.inner.setdefault(name, _Field())
        node.counted = True
    return root.inner


def _count(owner: object, fields: Mapping[str, _Field]) -> int:
    total = 0
    if isinstance(owner, dict):
        for name in owner.keys() & fields.keys():
            value, known = owner[name], fields[name]
            if not known.counted:
                total += _count(value, known.inner)
            elif isinstance(value, list | dict):
                total += len(value)
                if known.inner and isinstance(value, list):
                    total += sum(_count(item, known.inner) for item in value)
    return total
