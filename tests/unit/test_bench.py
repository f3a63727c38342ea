"""The benchmark computes its figures from audit events and watch events."""

import asyncio
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import generator, machine, tables
from tests.bench.arrival import Arrival, Pace
from tests.bench.connection import Connection
from tests.bench.errors import BenchError
from tests.bench.generator import Sender
from tests.bench.machine import Machine
from tests.bench.measurement import Measurement, own_writes
from tests.bench.options import Case, Options
from tests.bench.request_counts import RequestCounts
from tests.bench.result import Result
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
    latencies = timeline.latencies()
    assert latencies["pod_p50_ms"] == 500
    assert latencies["finished_lag_p99_ms"] == 250
    assert ("initialized_lag_p50_ms" in latencies) is (workload is PIPELINE)
    assert timeline.throughput() == {"pods_per_second": 2, "all_finished_s": 1.25}


def test_options_select_the_cases_and_the_alternating_workloads() -> None:
    options = Options(
        rounds=2, objects=(200, 40), parallel=5, rest_seconds=1, rate=5.0, alone=3, form=None
    )
    assert options.cases() == [
        Case(Form.POD, Arrival(Pace.BURST, 200)),
        Case(Form.POD, Arrival(Pace.BURST, 40)),
        Case(Form.LIFE, Arrival(Pace.BURST, 200)),
        Case(Form.LIFE, Arrival(Pace.BURST, 40)),
        Case(Form.LIFE, Arrival(Pace.STEADY, 40, 5.0)),
        Case(Form.POD, Arrival(Pace.ALONE, 3)),
    ]
    assert options.workloads() == [JOB, PIPELINE]


def test_deadline_includes_the_time_of_a_steady_arrival() -> None:
    at_once = Case(Form.LIFE, Arrival(Pace.BURST, 100)).deadline_seconds
    assert Case(Form.LIFE, Arrival(Pace.STEADY, 100, 5.0)).deadline_seconds == at_once + 20


class FakeConnection(Connection):
    """Records the created objects. The Pod follows the response."""

    def __init__(self, timeline: Timeline) -> None:
        self.created: list[str] = []
        self._timeline = timeline

    async def create(self, _path: str, body: bytes) -> None:
        name = body.decode()
        assert not self._timeline.without_pod.intersection(self.created)
        self.created.append(name)
        asyncio.get_running_loop().call_later(0.01, self._timeline.pod_changed, pod(name, {}), 2.0)


async def test_object_that_arrives_alone_waits_for_the_pod_of_the_previous_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generator, "ALONE_SECONDS", 0)
    timeline = Timeline(PIPELINE, Form.POD, ["a", "b", "c"])
    connection = FakeConnection(timeline)
    sender = Sender(connection, "/path", timeline)
    await sender.alone({name: name.encode() for name in ("a", "b", "c")})
    assert connection.created == ["a", "b", "c"]


async def test_steady_arrival_does_not_wait_for_responses() -> None:
    timeline = Timeline(PIPELINE, Form.POD, ["a", "b", "c"])
    under_way = asyncio.Barrier(3)

    class Slow(FakeConnection):
        async def create(self, _path: str, _body: bytes) -> None:
            await under_way.wait()

    sender = Sender(Slow(timeline), "/path", timeline)
    await sender.steady(dict.fromkeys(("a", "b", "c"), b""), per_second=1000)
    assert all(timeline.of(name).answered for name in ("a", "b", "c"))


@pytest.mark.parametrize(
    ("workload", "written"), [(PIPELINE, 3), (JOB, 12)], ids=["pipeline", "job"]
)
def test_own_writes_are_those_to_the_objects_of_the_workload(
    workload: Workload, written: int
) -> None:
    kinds = Counter(
        {
            "patch initpipelines/status": 3,
            "update jobs/status": 4,
            "patch jobs": 8,
            "create pods": 16,
            "get jobs": 32,
        }
    )
    assert own_writes(kinds, workload) == written


def measurement(workload: Workload, case: Case, **figures: float) -> Measurement:
    return Measurement(
        workload=workload.name,
        case=case,
        figures=figures,
        requests_per_object={"create pods": 1.0},
        errors={"500 get pods": 2},
        generator_cpu_share=0.1,
        generator_late_p99_ms=3.0,
        generator_saturated=False,
        neighbours_cores=0.1,
    )


ALONE = Case(Form.POD, Arrival(Pace.ALONE, 3))
BURST = Case(Form.LIFE, Arrival(Pace.BURST, 40))
MEASUREMENTS = [
    measurement(JOB, BURST, pod_p50_ms=10, requests=4, conflicts=0),
    measurement(PIPELINE, BURST, pod_p50_ms=20, requests=4, conflicts=0),
    measurement(JOB, BURST, pod_p50_ms=20, requests=0, conflicts=0),
    measurement(PIPELINE, BURST, pod_p50_ms=10, requests=4, conflicts=0),
    measurement(JOB, ALONE, pod_p50_ms=1, other_errors=0),
    measurement(PIPELINE, ALONE, pod_p50_ms=2, patch_requests=0),
]
MACHINE = Machine(
    commit="0123456789abcdef",
    modified=True,
    cores=2,
    memory_gib=23.4,
    processor="A processor",
    python="3.11.7",
    kubernetes="1.36.3",
)
RESULT = Result(
    "2026-01-01",
    MACHINE,
    Options(rounds=2, objects=(40,), parallel=5, rest_seconds=1, alone=3),
    MEASUREMENTS,
)


def test_comparison_has_medians_ranges_and_ratios_within_each_round() -> None:
    table = tables.comparison(MEASUREMENTS, BURST)
    assert table.header == ["", "InitPipeline", "Job", "ratio"]
    assert [list(row) for row in table.rows] == [
        ["request -> Pod, p50, ms", "15 [10-20]", "15 [10-20]", "1.25 [0.50-2.00]"],
        ["API requests per object", "4.00 [4.00-4.00]", "2.00 [0.00-4.00]", "1.00"],
        ["conflicts (409)", "0 [0-0]", "0 [0-0]", "-"],
    ]


def test_comparison_omits_rows_without_values() -> None:
    titles = [row[0] for row in tables.comparison(MEASUREMENTS, ALONE).rows]
    assert titles == ["request -> Pod, p50, ms", "other errors"]


def test_requests_are_listed_for_each_workload() -> None:
    assert list(tables.requests(MEASUREMENTS, BURST)) == [
        "InitPipeline, requests per object: create pods 1.00",
        "InitPipeline, errors in all rounds: 500 get pods: 4",
        "Job, requests per object: create pods 1.00",
        "Job, errors in all rounds: 500 get pods: 4",
    ]


def test_result_that_was_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    RESULT.write(file)
    assert Result.load(file) == RESULT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"date": "2026-01-01", "machine": {}}'])
def test_file_with_another_content_is_refused_as_result(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(BenchError, match=r"bench\.json is not a result"):
        Result.load(file)


def test_circumstances_name_commit_machine_and_versions() -> None:
    first = next(RESULT.circumstances())
    assert first == (
        "2026-01-01. Commit 0123456789ab with local changes; 2 cores for all processes "
        "(A processor), 23 GiB of memory; Kubernetes 1.36.3, Python 3.11.7."
    )


def test_circumstances_warn_of_a_saturated_generator_and_of_busy_neighbours() -> None:
    saturated = replace(MEASUREMENTS[0], generator_saturated=True, neighbours_cores=0.5)
    lines = list(replace(RESULT, measurements=[*MEASUREMENTS[1:], saturated]).circumstances())
    assert "0.1 to 0.5 cores busy. They increase" in lines[-2]
    assert lines[-1].startswith("WARNING: in 1 of 6 measurements")


def test_machine_is_read_from_proc() -> None:
    assert machine.memory_gib("MemTotal:       24626464 kB\nMemFree: 1 kB\n") == 23.5
    assert machine.processor("processor : 0\nmodel name\t: A processor\n") == "A processor"
    assert machine.processor("processor : 0\n") == platform.machine()
