"""Label selectors, as the API server matches them (meta/v1 LabelSelector)."""

from collections.abc import Mapping
from typing import Any


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Returns whether a selector matches these labels. An empty selector matches everything. None,
    and an unknown operator, match nothing."""
    if not isinstance(selector, Mapping):
        return False
    wanted = as_mapping(selector.get("matchLabels"))
    every = selector.get("matchExpressions")
    every = every if isinstance(every, list) else []
    return wanted.items() <= labels.items() and all(_meets(one, labels) for one in every)


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Returns the value. An empty mapping if it is something else."""
    return value if isinstance(value, Mapping) else {}


def _meets(found: Any, labels: Mapping[str, str]) -> bool:
    expression = as_mapping(found)
    value, values = labels.get(str(expression.get("key"))), expression.get("values")
    values = values if isinstance(values, list) else []
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
