"""The benchmark computes its figures from audit events and watch events."""

import asyncio
import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import generator, machine, peers, plot, publish, report, reruns, tables
from tests.bench import measurement as benchmark
from tests.bench.__main__ import options_of
from tests.bench.arrival import Arrival, Pace
from tests.bench.connection import Connection
from tests.bench.errors import BenchError
from tests.bench.generator import Sender
from tests.bench.machine import Machine
from tests.bench.measurement import Failure, Measurement, own_writes
from tests.bench.options import Case, Options
from tests.bench.peers import PEERS, Peer
from tests.bench.request_counts import RequestCounts
from tests.bench.reruns import Reruns, Subject
from tests.bench.result import Result
from tests.bench.scale import MODEL, Scale, copies
from tests.bench.stats import Spread, percentile
from tests.bench.timeline import Timeline
from tests.bench.workloads import JOB, PIPELINE, TASK_RUN, WORKFLOW, Form, Workload
from tests.cluster.audit import Request
from tests.cluster.progress import silent

TRACES = Path(__file__).parents[1] / "traces" / "recorded"
POD_LOST = reruns.CAUSES[0]
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
    assert replace(options, peers=("argo", "tekton")).workloads() == [
        *(JOB, PIPELINE),
        *(WORKFLOW, TASK_RUN),
    ]


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


@pytest.mark.parametrize("name", ["app-exits", "sandbox-killed", "restarted-in-place"])
def test_restart_is_played_like_that_of_a_kubelet(name: str) -> None:
    play = {
        "app-exits": reruns.container_restarted,
        "sandbox-killed": reruns.sandbox_restarted,
        "restarted-in-place": reruns.restarted_in_place,
    }[name]
    trace = json.loads((TRACES / f"{name}.json").read_text())
    statuses = [state["status"] for state in trace["states"]]
    after = next(status for status in statuses if restarted(status) and not removed(status))
    before = [one for one in statuses[: statuses.index(after)] if runs(one)][-1]
    changed = before | play(before, "2030-01-01T12:00:07Z")
    assert summary(changed) == summary(after)
    ids = {one.get("containerID") for one in containers(changed)} - {None}
    assert len(ids - {one["containerID"] for one in containers(before)}) == 1


def containers(status: Mapping[str, Any]) -> list[Any]:
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def restarted(status: Mapping[str, Any]) -> bool:
    return any(one["restartCount"] for one in containers(status))


def removed(status: Mapping[str, Any]) -> bool:
    """Return whether an in-place re-run has only removed the containers."""
    states = [one["state"].get("waiting", {}) for one in containers(status)]
    return {"RestartingAllContainers"} == {state.get("reason") for state in states}


def runs(status: Mapping[str, Any]) -> bool:
    return any("running" in one["state"] for one in status.get("containerStatuses", []))


def summary(status: Mapping[str, Any]) -> object:
    """Return what an observer sees, without IDs and times."""
    return (
        status["phase"],
        [(one["type"], one["status"]) for one in status["conditions"]],
        [
            (one["name"], one["ready"], one["restartCount"], *one["state"], *one["lastState"])
            for one in containers(status)
        ],
    )


def run_status(number: int, trigger: str = "PodLost") -> dict[str, Any]:
    return {"status": {"run": {"number": number, "trigger": trigger}}}


def rerun(pod_at: float, recorded_at: float, trigger: str = "PodLost") -> Subject:
    subject = Subject("a", {})
    subject.pod_changed({"metadata": {"uid": "1"}}, 1.0)
    subject.owner_changed(run_status(1, "Created"), 1.0)
    subject.cause(2.0)
    subject.pod_changed({"metadata": {"uid": "1"}}, 2.1)
    subject.owner_changed(run_status(1, "Created"), 2.1)
    assert (subject.pod_ms(), subject.recorded_ms()) == (None, None)
    for later in (0, 1):
        subject.owner_changed(run_status(2, trigger), recorded_at + later)
        subject.pod_changed({"metadata": {"uid": "2"}}, pod_at + later)
    return subject


def test_rerun_is_measured_until_its_first_pod_and_until_its_first_status() -> None:
    measured = reruns.result(POD_LOST, [rerun(2.25, 2.5), rerun(3, 4)])
    assert measured.trigger == "PodLost"
    assert measured.figures == {
        "pod_p50_ms": 250,
        "pod_p99_ms": 1000,
        "recorded_p50_ms": 500,
        "recorded_p99_ms": 2000,
    }


def test_rerun_in_the_same_pod_has_no_time_of_a_pod() -> None:
    measured = reruns.result(replace(POD_LOST, new_pod=False), [rerun(2.25, 2.5)])
    assert set(measured.figures) == {"recorded_p50_ms", "recorded_p99_ms"}


def test_rerun_with_another_trigger_fails_the_benchmark() -> None:
    with pytest.raises(BenchError, match="a has a run with the trigger Retry"):
        reruns.result(POD_LOST, [rerun(2.25, 2.5, trigger="Retry")])


def measurement(
    workload: Workload, case: Case, number: int = 1, /, **figures: float
) -> Measurement:
    return Measurement(
        workload=workload.name,
        case=case,
        round=number,
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
    measurement(JOB, BURST, 2, pod_p50_ms=20, requests=0, conflicts=0),
    measurement(PIPELINE, BURST, 2, pod_p50_ms=10, requests=4, conflicts=0),
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
STARTS = [figure.key for figure in tables.SCALE_ROWS]
RESULT = Result(
    "2026-01-01",
    MACHINE,
    Options(rounds=2, objects=(40,), parallel=5, rest_seconds=1, alone=3),
    MEASUREMENTS,
    [
        Reruns("PodLost", {"pod_p50_ms": 1, "pod_p99_ms": 5}),
        Reruns("PodLost", {"pod_p50_ms": 3, "recorded_p50_ms": 9}),
    ],
    [Scale(100, dict.fromkeys(STARTS, 1.0)), Scale(100, dict.fromkeys(STARTS, 3.0))],
    [Failure("Tekton TaskRun", BURST, 2, "3 of 40 have no Pod")],
)


def test_comparison_has_medians_ranges_and_ratios_within_each_round() -> None:
    table = tables.comparison(MEASUREMENTS, BURST)
    assert table.header == ["", "InitPipeline", "Job", "ratio"]
    assert [list(row) for row in table.rows] == [
        ["request -> Pod, p50, ms", "15 [10-20]", "15 [10-20]", "1.25 [0.50-2.00]"],
        ["API requests per object", "4.00 [4.00-4.00]", "2.00 [0.00-4.00]", "1.00"],
        ["conflicts (409)", "0 [0-0]", "0 [0-0]", "-"],
    ]


def test_starts_have_a_column_for_each_number_of_pipelines() -> None:
    table = tables.starts([*RESULT.scales, Scale(10_000, dict.fromkeys(STARTS, 2.0))])
    assert table.header == ["InitPipelines at rest", "100", "10,000"]
    assert table.rows[0] == ["start -> first new Pod, s", "2.0 [1.0-3.0]", "2.0"]


def test_copies_have_names_and_uids_of_their_own() -> None:
    owner, made = "uid-1", "uid-2"
    model = {
        f"/pipelines/{MODEL}": json.dumps({"metadata": {"name": MODEL, "uid": owner}}),
        f"/pods/{MODEL}": json.dumps({"metadata": {"uid": made, "ownerReferences": [owner]}}),
    }
    written = dict(copies(model, range(2)))
    assert len(written) == 4
    for number in range(2):
        name = f"rest-{number:07}"
        pipeline = json.loads(written[f"/pipelines/{name}"])["metadata"]
        pod = json.loads(written[f"/pods/{name}"])["metadata"]
        assert pipeline["name"] == name
        assert pod["ownerReferences"] == [pipeline["uid"]]
        assert len({owner, made, pipeline["uid"], pod["uid"]}) == 4


def test_ratio_is_that_of_the_same_round_if_another_round_failed() -> None:
    table = tables.comparison(MEASUREMENTS[1:4], BURST)
    assert table.rows[0] == [
        "request -> Pod, p50, ms",
        *("15 [10-20]", "20", "0.50"),
    ]


def test_failure_of_a_measurement_does_not_end_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = iter([None, BenchError("too slow"), None, None])

    def measure(workload: Workload, case: Case, number: int, *_: object) -> Measurement:
        outcome = next(outcomes)
        if outcome:
            raise outcome
        return measurement(workload, case, number)

    monkeypatch.setattr(benchmark, "_measure", measure)
    options = Options(rounds=2, objects=(40,), parallel=5, rest_seconds=1, form=Form.LIFE)
    results = list(benchmark.measure_all(options, silent))
    assert [(one.workload, one.round, type(one)) for one in results] == [
        ("Job", 1, Measurement),
        ("InitPipeline", 1, Failure),
        ("Job", 2, Measurement),
        ("InitPipeline", 2, Measurement),
    ]


def test_failure_of_the_first_measurement_ends_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(*_: object) -> Measurement:
        raise BenchError("no Go")

    monkeypatch.setattr(benchmark, "_measure", measure)
    with pytest.raises(BenchError, match="no Go"):
        next(benchmark.measure_all(RESULT.options, silent))


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


def test_everything_is_measured_on_request_unless_a_choice_is_given() -> None:
    everything = options_of("--all", "--objects", "40", "--peers", "argo")
    assert everything.objects == (40,)
    assert everything.peers == ("argo",)
    assert (everything.rate, everything.alone, everything.reruns) == (5, 50, 20)
    assert everything.scale == (100, 1000, 10_000)
    assert options_of("--scale").scale == (100, 10_000)
    assert options_of("--scale", "50000").scale == (50_000,)
    assert options_of("--peers").peers == ("tekton", "argo")
    assert options_of() == Options(rounds=2, objects=(200,), parallel=50, rest_seconds=20)


@pytest.mark.parametrize("number", ["0", "-1", "x", "100001"])
def test_count_that_is_out_of_range_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options_of("--objects", number)
    assert "is not an integer from 1 to 100000" in capsys.readouterr().err


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_version_of_a_peer_is_that_of_its_module_file(peer: Peer) -> None:
    assert f"{peer.module} {peer.version}" in (peer.program.folder / "go.mod").read_text()
    assert f"{peer.module} {peer.version} h1:" in (peer.program.folder / "go.sum").read_text()


def test_crd_is_installed_without_its_conversion_webhook() -> None:
    crd = {"kind": "CustomResourceDefinition", "spec": {"scope": "x", "conversion": {"a": 1}}}
    assert peers.without_webhook(crd)["spec"] == {"scope": "x", "conversion": {"strategy": "None"}}
    assert peers.without_webhook({"kind": "ConfigMap"}) == {"kind": "ConfigMap"}


@pytest.mark.parametrize(
    ("workload", "status"),
    [
        (TASK_RUN, {"conditions": [{"type": "Succeeded", "status": "True"}]}),
        (WORKFLOW, {"phase": "Succeeded"}),
    ],
    ids=["tekton", "argo"],
)
def test_object_of_a_peer_has_three_steps_and_reports_its_end(
    workload: Workload, status: Mapping[str, Any]
) -> None:
    for form in Form:
        text = json.dumps(workload.manifest("a", form))
        assert [text.count(f'"name": "step-{number}"') for number in range(4)] == [1, 1, 1, 0]
        assert ('"schedulerName": "none"' in text) is (form is Form.POD)
    assert workload.finished(status)
    assert not workload.finished({"phase": "Running", "conditions": []})


def test_page_gets_the_tables_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- generated: results -->\nold\n<!-- end -->\nafter\n")
    written = publish.publish(RESULT, tmp_path)
    assert written == [page, tmp_path / "benchmarks.svg"]
    text = page.read_text()
    assert text.startswith("before\n<!-- generated: results -->\n- 2026-01-01. Commit 0123")
    assert text.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in text
    assert "|  | InitPipeline | Job | ratio |\n| --- | ---: | ---: | ---: |\n" in text
    assert "\n| PodLost | 2 [1-3] | 5 | 9 | - |\n" in text
    publish.publish(RESULT, tmp_path)
    assert page.read_text() == text


def test_page_without_marks_is_refused() -> None:
    with pytest.raises(BenchError, match="0 places"):
        publish.filled("no mark", RESULT)


def test_part_of_a_figure_is_a_dash_in_markdown() -> None:
    table = tables.Table("T", ["", "a"], [["whole", "2"], ["  part", "1"]])
    assert publish.markdown(table) == (
        "### T\n\n|  | a |\n| --- | ---: |\n| whole | 2 |\n| - part | 1 |\n"
    )


def test_plot_has_the_ratios_to_job() -> None:
    assert list(plot.ratio_rows(MEASUREMENTS)) == [
        (BURST.title, ()),
        ("request -> Pod, p50, ms", [("InitPipeline", Spread(median=1.25, low=0.5, high=2))]),
        (ALONE.title, ()),
        ("request -> Pod, p50, ms", [("InitPipeline", Spread(median=2, low=2, high=2))]),
    ]


def test_plot_places_equal_ratios_on_the_line_of_job() -> None:
    rows = [("a & b", [("us", Spread(1, 0.5, 2)), ("them", Spread(0, 0, 300))])]
    picture = ElementTree.fromstring(plot.svg(rows))
    space = "{http://www.w3.org/2000/svg}"
    (line,) = picture.iterfind(f"{space}path[@class='one']")
    *_, dot = picture.iterfind(f"{space}circle")
    assert f"M{dot.get('cx')} " in str(line.get("d"))
    texts = {text.text for text in picture.iterfind(f"{space}text")}
    assert {"a & b", "us", "them", "1 (Job)"} <= texts


def test_plot_without_measurements_is_a_document() -> None:
    assert ElementTree.fromstring(plot.svg([])).tag.endswith("svg")


def test_report_has_all_tables_requests_and_circumstances(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report.show(RESULT)
    printed = capsys.readouterr().out
    for table in tables.of(RESULT):
        assert table.title in printed
    assert "1.25 [0.50-2.00]" in printed
    assert "Job, requests per object: create pods 1.00" in printed
    assert "Commit 0123456789ab with local changes" in printed
    assert "FAILED: Tekton TaskRun, life, 40 at once, round 2: 3 of 40 have no Pod" in printed
