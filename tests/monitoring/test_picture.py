"""The picture of the dashboard, without Prometheus."""

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.monitoring.dashboard import panels, queries
from tests.monitoring.picture import Line, lines, shown, svg

START, END = 1000.0, 1600.0


def matrix(*values: str, **labels: str) -> list[Any]:
    return [{"metric": labels, "values": [[START + 60 * n, v] for n, v in enumerate(values)]}]


def test_series_has_its_legend_and_only_numbers() -> None:
    (query,) = [one for one in queries() if one.title == "Objects in the cache"]
    found = lines(query, matrix("1", "NaN", "3", pod="a", resource="pods"))
    assert found == [Line("a pods", [(START, 1.0), (START + 120, 3.0)])]
    assert lines(query, matrix("NaN", pod="a")) == []


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "cpm", "0/min"),
        (0.25, "s", "250 ms"),
        (90, "s", "1.5 min"),
        (70 * 2**20, "bytes", "70 MiB"),
        (1500, "none", "1.5k"),
        (0.002, "reqps", "0.002/s"),
    ],
)
def test_value_is_shown_with_its_unit(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_picture_has_each_panel_with_its_series() -> None:
    samples = [(START, 1.0), (END, 2.0)]
    found = {panel["id"]: [Line(f"series {panel['id']}", samples)] for panel in panels()}
    drawn = ElementTree.fromstring(svg(found, START, END))
    texts = {element.text for element in drawn.iter() if element.text}
    assert {panel["title"] for panel in panels()} <= texts
    legends = {f"series {one['id']}" for one in panels() if one["type"] != "stat"}
    assert legends <= texts
