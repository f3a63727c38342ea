"""Label selectors that match as in the API server (meta/v1 LabelSelector)."""

from collections.abc import Mapping
from typing import Any

from initpipeline.core import lenient


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Returns whether a selector matches these labels. An empty selector matches all labels. None
    and an expression with an unknown operator match nothing."""
    if not isinstance(selector, Mapping):
        return False
    required = lenient.mapping(selector.get("matchLabels"))
    expressions = selector.get("matchExpressions")
    expressions = expressions if isinstance(expressions, list) else []
    return required.items() <= labels.items() and all(_meets(one, labels) for one in expressions)


def _meets(requirement: Any, labels: Mapping[str, str]) -> bool:
    expression = lenient.mapping(requirement)
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
