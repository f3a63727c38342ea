"""The panels and queries of manifests/monitoring/dashboard.json."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from initpipeline.api.raw import Raw

FILE: Final = Path(__file__).parents[2] / "manifests" / "monitoring" / "dashboard.json"


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    panel: Raw
    expression: str
    legend: str

    @property
    def title(self) -> str:
        return str(self.panel["title"])

    def filled(self, window: str, namespace: str) -> str:
        """Returns the expression as Grafana sends it if these namespaces and all Pods are selected.
        ``window`` is the value of $__rate_interval."""
        filled = self.expression.replace("$namespace", namespace).replace("$pod", ".*")
        return filled.replace("$__rate_interval", window)


def dashboard() -> Raw:
    """Returns the dashboard."""
    loaded: Raw = json.loads(FILE.read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """Returns the panels, without the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Yields the queries of all panels."""
    for panel in panels():
        for target in panel["targets"]:
            yield Query(panel, target["expr"], target["legendFormat"])
