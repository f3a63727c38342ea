"""The dashboard of Grafana: its conventions, and the series of its queries."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.build import GoProgram, built
from tests.cluster.progress import Lines
from tests.monitoring.dashboard import FILE, Query, dashboard, panels, queries
from tests.monitoring.series import unknown, used

SCHEMA: Final = GoProgram(
    "grafana",
    module=Path(__file__).with_name("grafana"),
    duration="a minute on two cores, once per machine",
)
SELECTION: Final = 'namespace=~"$namespace",pod=~"$pod"'
ALL: Final = list(queries())
OPERATOR: Final = "initpipeline_"
"""The prefix of metrics that no other controller has."""


def names(query: Query) -> str:
    return f"{query.title}: {query.legend}"


@pytest.mark.parametrize("query", ALL, ids=names)
def test_query_uses_only_metrics_and_labels_of_the_operator(query: Query) -> None:
    if "ALERTS{" in query.expression:
        return
    assert unknown(query.expression) == set()
    labels = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    assert labels <= set(re.findall(r"\w+", query.expression)) | {"pod", "resource"}


@pytest.mark.parametrize("query", ALL, ids=names)
def test_query_selects_the_chosen_replicas_of_this_operator(query: Query) -> None:
    for name in used(query.expression):
        assert f"{name}{{{SELECTION}" in query.expression
        if not name.startswith(OPERATOR):
            joined = f"and on (job, instance) initpipeline_build_info{{{SELECTION}}}"
            assert joined in query.expression


def test_alerts_are_those_of_the_chosen_namespaces_and_those_without_one() -> None:
    """InitPipelineNotRunning has no namespace, because no target answers."""
    [alerts] = [one.expression for one in ALL if "ALERTS{" in one.expression]
    assert 'namespace=~"|$namespace"' in alerts


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_panel_has_a_description_a_unit_and_no_data_source_of_its_own(
    panel: dict[str, Any],
) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert all(target["legendFormat"] for target in panel["targets"])
    assert max(Counter(target["refId"] for target in panel["targets"]).values()) == 1


def test_each_data_source_is_the_variable() -> None:
    found = [one for one in values(dashboard(), "datasource") if one != "prometheus"]
    assert len(found) > len(ALL)
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in found)
    variables = {one["name"]: one["type"] for one in dashboard()["templating"]["list"]}
    assert variables == {"datasource": "datasource", "namespace": "query", "pod": "query"}


@pytest.mark.long
def test_dashboard_has_the_fields_of_the_schema_of_grafana() -> None:
    answer = subprocess.run(
        [built(SCHEMA, Lines()) / SCHEMA.name, FILE], capture_output=True, text=True, check=False
    )
    assert answer.stderr == ""
    assert answer.returncode == 0


def values(node: Any, key: str) -> Iterator[Any]:
    """Yields each value of this key, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for one in node:
            yield from values(one, key)


def test_panels_have_unique_ids_and_titles_and_do_not_overlap() -> None:
    everything = dashboard()["panels"]
    assert max(Counter(panel["id"] for panel in everything).values()) == 1
    assert max(Counter(panel["title"] for panel in everything).values()) == 1
    cells = {
        panel["id"]: {
            (x, y)
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        }
        for panel in everything
    }
    assert all(x < 24 for taken in cells.values() for x, _ in taken)
    assert not [pair for pair in combinations(cells, 2) if cells[pair[0]] & cells[pair[1]]]
