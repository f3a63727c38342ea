"""The trace of a run on a real kubelet, which the operator exports across its own death."""

from pathlib import Path
from typing import Any

from initpipeline.api.raw import Raw
from initpipeline.api.times import parse_time
from tests.collector import Received, running_collector
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import run_number
from tests.templates import SHARED, WORK, container, template

FAILS_ONCE = "test -e /data/tried || { touch /data/tried; sleep 1; exit 3; }"


def ended_attempts(states: list[Raw]) -> set[tuple[str, str, str, str]]:
    """Returns name, container ID, start and end of each attempt of a step that has ended in these
    states of a Pod or an InitPipeline."""
    return {
        (status["name"], end["containerID"], end["startedAt"], end["finishedAt"])
        for state in states
        for status in state.get("status", {}).get("initContainerStatuses", ())
        for end in (status["state"].get("terminated"), status["lastState"].get("terminated"))
        if end
    }


def has_ended_attempt(state: Raw) -> bool:
    return bool(ended_attempts([state]))


def as_attempt(span: Received) -> tuple[str, str, int, int]:
    name = span.attributes["k8s.container.name"]
    return name, span.attributes["container.id"], span.start, span.end


def nanoseconds(text: str) -> int:
    time = parse_time(text)
    assert time is not None
    return int(time.timestamp()) * 10**9


def test_trace_of_a_run_has_each_attempt_of_the_kubelet_with_its_times(
    env: E2EEnv, permitted_kubeconfig: Path, kube: Any, tmp_path: Path
) -> None:
    steps = container("flaky", FAILS_ONCE, **SHARED), container("last", "sleep 1")
    with running_collector() as collector:
        operator = OperatorProcess(
            permitted_kubeconfig,
            tmp_path / "operator.log",
            ["--namespace", kube.namespace],
            {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"},
        )
        with operator:
            env.create("demo", template(*steps, **WORK))
            env.pipelines.wait(
                "demo", "an attempt has ended", lambda state: bool(ended_attempts([state]))
            )
            operator.kill()
            operator.start()
            ready = env.wait_ready("demo", run=1)
            env.delete_pod("demo")
            env.pipelines.wait("demo", "run 2", lambda state: run_number(state) == 2)
            poll_until(lambda: "run" in {one.name for one in collector.spans}, 15, "the root")
        spans = {one.id: one for one in collector.of(initpipeline__run__number=1)}.values()

    [root] = [one for one in spans if one.name == "run"]
    assert {one.trace for one in spans} == {root.trace}
    assert {one.parent for one in spans} == {"", root.id}
    assert root.attributes["initpipeline.run.result"] == "Lost"
    [initialize] = [one for one in spans if one.name == "initialize"]
    assert initialize.end == nanoseconds(ready["status"]["run"]["initializedTime"])
    uid = ready["status"]["podUID"]
    pods = [one for one in env.pods.of("demo") if one["metadata"]["uid"] == uid]
    expected = {
        (name, identifier, nanoseconds(start), nanoseconds(end))
        for name, identifier, start, end in ended_attempts(pods)
    }
    assert len(expected) == 3
    assert {as_attempt(one) for one in spans if one.name.startswith("step ")} == expected
