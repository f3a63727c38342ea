"""The configuration of kube-state-metrics: its paths exist, and it serves the documented series."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from initpipeline.api import names
from tests.installation import CRDS

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "manifests" / "monitoring" / "kube-state-metrics.yaml"
(RESOURCE,) = yaml.safe_load(FILE.read_text())["spec"]["resources"]
METRICS: Final = {metric["name"]: metric for metric in RESOURCE["metrics"]}
METADATA: Final[dict[str, Any]] = {"creationTimestamp": {}, "namespace": {}, "name": {}}
"""Fields of metadata that are used. The schema of the CRD has none of them."""


@cache
def schema() -> dict[str, Any]:
    (crd,) = (yaml.safe_load(file.read_text()) for file in CRDS.glob("*.yaml"))
    (version,) = crd["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    found["properties"]["metadata"] = {"properties": METADATA}
    return found


def at(node: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Returns the schema of a field. Raises KeyError if there is no such field."""
    for name in path:
        node = node.get("items", node)["properties"][name]
    return node


def paths(metric: dict[str, Any]) -> Iterator[list[str]]:
    """Yields the path of each field that a metric reads."""
    (each,) = (value for key, value in metric["each"].items() if key != "type")
    yield each["path"]
    for path in [*each.get("labelsFromPath", {}).values(), each.get("valueFrom", [])]:
        yield [*each["path"], *path]


@pytest.mark.parametrize("name", METRICS)
def test_metric_reads_only_fields_of_the_crd(name: str) -> None:
    assert RESOURCE["groupVersionKind"] == {
        "group": names.GROUP,
        "version": names.VERSION,
        "kind": names.KIND,
    }
    for path in [*paths(METRICS[name]), *RESOURCE["labelsFromPath"].values()]:
        at(schema(), path)


def test_page_has_each_metric_with_its_labels() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    prefix = RESOURCE["metricNamePrefix"]
    rows = dict(re.findall(rf"^\| `{prefix}_(\w+)` \|(.*?)\|", page, re.MULTILINE))
    for name, metric in METRICS.items():
        (each,) = (value for key, value in metric["each"].items() if key != "type")
        assert re.findall(r"\w+", rows.pop(name)) == list(each.get("labelsFromPath", ()))
    assert rows == {}
