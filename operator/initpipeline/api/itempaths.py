"""Counts the list items and map entries of a Pod template.

The paths of its lists and maps are those of podlists.py. A list within the items of a list has the
path "volumes[].projected.sources".
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from initpipeline.api.podlists import LISTS

MOST_ITEMS: Final = 1500
"""The most list items and map entries of a template, in total."""

Lists = dict[str, Any]
"""By path of a list or map in an object: the lists and maps in its items, in the same form."""


def lists_by_path(paths: Iterable[str]) -> Lists:
    """Returns the paths as a tree."""
    tree: Lists = {}
    for path in paths:
        node = tree
        for part in path.split("[]."):
            node = node.setdefault(part, {})
    return tree


def number_of_items(template: Mapping[str, Any]) -> int:
    """Returns the number of list items and map entries of a Pod template, in total."""
    return _count(template, _template_lists())


@cache
def _template_lists() -> Lists:
    return lists_by_path(LISTS)


def _count(owner: object, lists: Lists) -> int:
    total = 0
    for path, inner in lists.items():
        items = _at(owner, path)
        if isinstance(items, list | dict):
            total += len(items)
            if inner and isinstance(items, list):
                total += sum(_count(item, inner) for item in items)
    return total


def _at(owner: object, path: str) -> object:
    """Returns the value at the path. None: the owner has no such field."""
    value = owner
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
