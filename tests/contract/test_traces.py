"""The operator exports traces to a collector, and works without it as well."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from initpipeline.api import names
from initpipeline.api.times import parse_time
from tests.builders import End, fresh_pod, running_pod
from tests.cluster.cluster import Cluster
from tests.collector import Collector, Received, running_collector
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.ports import free_port
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

FAILED = fresh_pod().init("one", exit=7, end=5, message="hunter2")
DONE = (
    running_pod()
    .init("one", exit=0, start=20, end=25, restarts=1, last=End(7, start=0, end=5))
    .init("two", exit=0, start=30, end=40)
)

Start = Callable[[str], OperatorProcess]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture
def start(control_plane: Cluster, user: str, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Returns a function that starts an operator which exports traces to this endpoint."""
    started: list[OperatorProcess] = []

    def start(endpoint: str) -> OperatorProcess:
        process = OperatorProcess(
            control_plane.kubeconfig_for(user, ["system:masters"]),
            tmp_path / "operator.log",
            ["--namespace", namespace, "--sweep-seconds", "99999"],
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
                "OTEL_RESOURCE_ATTRIBUTES": "k8s.cluster.name=test",
            },
        )
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.running:
            process.kill()


def nanoseconds(text: str) -> int:
    """Returns a time of status as OTLP has it. It has whole seconds or microseconds."""
    time = parse_time(text)
    assert time is not None
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def wait_for(collector: Collector, operator: OperatorProcess, *spans: str) -> None:
    """Wait until the collector has spans of these names."""
    poll_until(
        lambda: set(spans) <= {span.name for span in collector.spans},
        TIMEOUT_SECONDS,
        f"spans {spans}",
        state=operator.tail,
    )


def test_each_run_is_a_trace_whose_spans_have_the_times_of_status(
    start: Start, collector: Collector, env: ContractEnv
) -> None:
    """The operator is killed within the first run. The next process continues the trace."""
    operator = start(collector.url)
    env.create()
    env.run_pod(fresh_pod(), FAILED)
    operator.kill()
    operator.start()
    env.report(DONE)
    env.wait("Ready", is_ready)
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "now"}}})
    status = env.wait("the second run", lambda s: len(runs_in(s)) == 2 and s)
    wait_for(collector, operator, "run", "initialize", "step one", "step two", "reconcile")
    assert operator.stop() == 0

    [first] = {one.trace for one in collector.of(initpipeline__run__number=1)}
    [second] = {one.trace for one in collector.of(initpipeline__run__number=2)}
    assert first != second
    pipeline: Any = env.pipeline()
    root = one_of(collector, first, "run")
    run = status["history"][0]
    assert root.parent == ""
    assert (root.start, root.end) == (
        nanoseconds(run["startTime"]),
        nanoseconds(run["completionTime"]),
    )
    expected = {
        "k8s.namespace.name": env.namespace,
        "initpipeline.name": "demo",
        "initpipeline.uid": pipeline["metadata"]["uid"],
        "initpipeline.run.number": 1,
        "initpipeline.run.trigger": "Created",
        "initpipeline.run.result": "Initialized",
        "k8s.pod.uid": run["podUID"],
    }
    assert expected.items() <= root.attributes.items()
    initialize = one_of(collector, first, "initialize")
    assert (initialize.start, initialize.end) == (root.start, nanoseconds(run["initializedTime"]))
    steps = [one for one in of_trace(collector, first) if one.name.startswith("step ")]
    attempts = sorted(steps, key=lambda one: one.start)
    reported = [
        terminated(FAILED, 0),
        terminated(DONE, 0),
        terminated(DONE, 1),
    ]
    assert [(one.name, one.start, one.end, one.is_error) for one in attempts] == [
        ("step one", *reported[0], True),
        ("step one", *reported[1], False),
        ("step two", *reported[2], False),
    ]
    for span in of_trace(collector, first):
        assert span.parent == ("" if span.name == "run" else root.id)
        assert span.resource["service.name"] == "initpipeline"
        assert span.resource["k8s.cluster.name"] == "test"
        assert "hunter2" not in repr(span)
    assert {one.name for one in of_trace(collector, second)} == {"reconcile"}
    logged = {line["trace_id"] for line in operator.lines() if line.get("run") == 1}
    assert logged == {first}


def of_trace(collector: Collector, trace: str) -> list[Received]:
    """Returns the spans of a trace. A span that was exported again is equal, so it counts once."""
    spans = {one.id: one for one in collector.spans if one.trace == trace}
    assert all(one == spans[one.id] for one in collector.spans if one.trace == trace)
    return list(spans.values())


def one_of(collector: Collector, trace: str, name: str) -> Received:
    [span] = [one for one in of_trace(collector, trace) if one.name == name]
    return span


def terminated(pod: Any, container: int) -> tuple[int, int]:
    """Returns the times at which an init container started and finished."""
    state = pod.raw()["status"]["initContainerStatuses"][container]["state"]["terminated"]
    return nanoseconds(state["startedAt"]), nanoseconds(state["finishedAt"])


@pytest.mark.parametrize("fault", ["refuses connections", "does not respond"])
def test_operator_works_and_ends_if_the_collector_fails(
    start: Start, collector: Collector, env: ContractEnv, fault: str
) -> None:
    collector.hangs.set()
    unreachable = f"http://127.0.0.1:{free_port()}"
    operator = start(unreachable if fault == "refuses connections" else collector.url)
    env.create()
    env.run_pod(fresh_pod(), running_pod())
    env.wait("Ready", is_ready)

    def problems() -> list[str]:
        return [line["message"] for line in operator.lines() if line["level"] != "INFO"]

    poll_until(problems, TIMEOUT_SECONDS, "a line about the collector", state=operator.tail)
    env.delete_pod()
    env.wait_for_pod(run=2)
    assert operator.stop() == 0
    assert problems() == ["spans dropped"]
    assert not collector.spans
