"""Label selectors match as in the API server."""

from typing import Any

import pytest

from initpipeline.plugin.wrap.labels import matches

LABELS = {"app": "shop", "tier": "web"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "shop"}}, True),
        ({"matchLabels": {"app": "cart"}}, False),
        ({"matchLabels": {"app": "shop", "x": "y"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["cart"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["cart"]}]}, True),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["cart"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}, False),
        ({"matchLabels": 1}, True),
    ],
)
def test_selector_matches_as_in_the_api_server(
    selector: dict[str, Any] | None, expected: bool
) -> None:
    assert matches(selector, LABELS) is expected
