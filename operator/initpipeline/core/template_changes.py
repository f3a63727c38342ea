"""The fields in which two Pod templates differ. Causes of runs, their messages and the plugin's
``plan`` report them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.models import Cause
from initpipeline.core.template import Unordered, canonical, is_large, normal_form
from initpipeline.core.text import clip

_PLAIN_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
SHOWN_CHANGES: Final = 3
"""How many changed paths are recorded."""
_FIRST: Final = ("spec", "initContainers", "containers", "name", "image")
"""Fields whose changes are listed first, because they matter most to users."""


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs between two templates. The value of an absent field is None."""

    path: str
    """For instance spec.initContainers[1].image, with the index in the newer template. If an item
    was removed from a list, or its order changed, it is the path of the list."""
    old: Any
    new: Any


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Returns the fields in which two templates differ, those of init containers first. Empty if
    the templates have the same normal form."""
    differing = _changes("", normal_form(old), normal_form(new))
    return [Change(_one_line(change.path), change.old, change.new) for change in differing]


def cause(old: Mapping[str, Any], new: Mapping[str, Any]) -> Cause | None:
    """Returns the cause of a run that was started because the template changed. None: the templates
    are equal, or one has more than MOST_ELEMENTS."""
    if is_large(old) or is_large(new):
        return None
    paths = [change.path for change in changes(old, new)]
    if not paths:
        return None
    return Cause(changed_paths=tuple(paths[:SHOWN_CHANGES]), changed_path_count=len(paths))


def changed_fields_message(cause: Cause) -> str:
    """Returns a message that lists the changed fields: spec.initContainers[1].image changed."""
    more = cause.changed_path_count - len(cause.changed_paths)
    named = ", ".join(cause.changed_paths)
    return f"{named} and {more} more changed" if more > 0 else f"{named} changed"


def _changes(path: str, old: Any, new: Any) -> Iterator[Change]:
    if type(old) is type(new) and old == new and not isinstance(new, dict | list):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=_rank):
            if key not in old or key not in new:
                yield Change(_field(path, key), old.get(key), new.get(key))
            else:
                yield from _changes(_field(path, key), old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_changes(path, old, new)
    else:
        yield Change(path, old, new)


def _list_changes(path: str, old: list[Any], new: list[Any]) -> Iterator[Change]:
    if canonical(old) == canonical(new):
        return
    before, after = _by_name(old), _by_name(new)
    if before is None or after is None:
        of_objects = all(isinstance(item, dict) for item in (*old, *new))
        if len(old) != len(new) or not of_objects or isinstance(new, Unordered):
            yield Change(path, old, new)
            return
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(f"{path}[{index}]", one, other)
        return
    # A new item at the index of a removed item counts as the same item, renamed.
    renamed = {
        name: former
        for former, name in zip(before, after, strict=False)
        if name not in before and former not in after
    }
    gone = before.keys() - after.keys() - set(renamed.values())
    kept = [name for name in after if name in before]
    reordered = kept != [name for name in before if name in after]
    if gone or (reordered and not isinstance(new, Unordered)):
        yield Change(path, list(before), list(after))
    for index, (name, item) in enumerate(after.items()):
        former = before.get(renamed.get(name, name))
        if former is None:
            yield Change(f"{path}[{index}]", None, item)
        else:
            yield from _changes(f"{path}[{index}]", former, item)


def _by_name(items: Sequence[Any]) -> dict[str, Any] | None:
    """Returns the items of a list by their names. None: names are missing or not unique."""
    named = {
        item["name"]: item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    return named if len(named) == len(items) else None


def _field(path: str, key: str) -> str:
    """Returns the path of a field. As in the API server's messages, a map's key is in brackets."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _one_line(path: str) -> str:
    """Returns the path without line breaks and control characters. A map's key may have them."""
    return clip(" ".join(path.split()), names.MAX_IDENTIFIER_LENGTH)


def _rank(key: str) -> tuple[int, str]:
    return (_FIRST.index(key) if key in _FIRST else len(_FIRST), key)
