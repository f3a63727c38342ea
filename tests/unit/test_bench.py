"""The benchmark computes its figures from audit events and watch events."""

from collections.abc import Mapping

import pytest

from tests.bench.request_counts import RequestCounts
from tests.bench.stats import Spread, percentile
from tests.bench.timeline import Timeline
from tests.bench.workloads import JOB, PIPELINE, Form, Workload
from tests.cluster.audit import Request

POD_STATUS = {
    "phase": "Succeeded",
    "conditions": [{"type": "Initialized", "status": "True"}],
}
PIPELINE_STATUS = {
    "conditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True", "reason": "PodSucceeded"},
    ]
}


def pod(name: str, status: Mapping[str, object]) -> dict[str, object]:
    return {"metadata": {"name": "any", "ownerReferences": [{"name": name}]}, "status": status}


def request(verb: str, code: int, user: str = "me") -> Request:
    return Request(verb, "pods", "status", "default", "a", user, "agent", code)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentile_is_a_measured_value(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_spread_has_median_minimum_and_maximum() -> None:
    assert Spread.of([3, 1, 2]) == Spread(median=2, low=1, high=3)


def test_request_counts_separate_conflicts_and_other_errors_of_one_user() -> None:
    requests = [request("patch", 200), request("patch", 409), request("get", 500)]
    counts = RequestCounts.of([*requests, request("patch", 409, user="another")], "me")
    assert counts.by_verb == {"patch": 2, "get": 1}
    assert (counts.total, counts.conflicts) == (3, 1)
    assert counts.other_errors == {"500 get pods/status": 1}


@pytest.mark.parametrize(
    ("workload", "status"),
    [(PIPELINE, PIPELINE_STATUS), (JOB, {"succeeded": 1})],
    ids=["pipeline", "job"],
)
def test_object_is_finished_once_its_pod_and_its_status_report_it(
    workload: Workload, status: Mapping[str, object]
) -> None:
    timeline = Timeline(workload, Form.LIFE, ["a"])
    timeline.of("a").sent, timeline.of("a").answered = 1.0, 1.1
    timeline.pod_changed(pod("a", {}), 1.5)
    timeline.pod_changed(pod("another", {}), 1.6)
    assert not timeline.without_pod
    timeline.pod_changed(pod("a", POD_STATUS), 2.0)
    assert timeline.unfinished
    timeline.owner_changed({"metadata": {"name": "a"}, "status": status}, 2.25)
    assert not timeline.unfinished
    figures = timeline.figures()
    assert figures["pod_p50_ms"] == 500
    assert figures["finished_lag_p99_ms"] == 250
    assert figures["all_finished_s"] == 1.25
    assert ("initialized_lag_p50_ms" in figures) is (workload is PIPELINE)
