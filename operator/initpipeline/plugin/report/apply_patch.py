"""Computes the patch that ``kubectl apply`` sends for a file.

These are the rules of kubectl's client-side apply for custom resources. Fields of the file are set.
Fields that the file applied last had, and the file does not have, are removed. All other fields
stay, such as those that other clients set. Lists are replaced as a whole.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def last_applied(live: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the file that was applied last. Empty if it does not exist or cannot be read."""
    annotations = live.get("metadata", {}).get("annotations") or {}
    try:
        applied = json.loads(annotations.get(LAST_APPLIED) or "{}")
    except (ValueError, RecursionError):
        return {}
    return applied if isinstance(applied, dict) else {}


def three_way_patch(
    last: Mapping[str, Any], file: Mapping[str, Any], live: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the JSON merge patch (RFC 7386) that ``kubectl apply`` would send, from the file
    that was applied last, the file and the live object."""
    patch: dict[str, Any] = {}
    for key, value in file.items():
        current, before = live.get(key), last.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            part = three_way_patch(before if isinstance(before, Mapping) else {}, value, current)
            if part:
                patch[key] = part
        elif (key not in live or current != value) and (value is not None or key in live):
            patch[key] = value
    removed = {key: None for key in last if key not in file and key in live}
    return patch | removed
