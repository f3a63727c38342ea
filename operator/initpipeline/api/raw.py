"""JSON objects of the Kubernetes API."""

from typing import Any

Raw = dict[str, Any]
"""A JSON object of the Kubernetes API as parsed, such as a Pod, a Pod spec or a condition."""
