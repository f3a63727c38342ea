"""Run scenarios on the test cluster and record the states of their Pods.

A recording does not depend on when it was made: UIDs and container IDs are replaced by numbers in
the order of their appearance, and times are relative to a fixed beginning. Fields that the tests do
not use are omitted.
"""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.api_client import connected
from tests.builders import stamp
from tests.cluster.cluster import Cluster
from tests.traces.scenarios import POD, SCENARIOS, Scenario, ScenarioEnv
from tests.watching import pods

FOLDER = Path(__file__).parent / "recorded"
QUIET_SECONDS = 2.0

METADATA = ("deletionTimestamp", "deletionGracePeriodSeconds")
STATUS = ("phase", "reason", "message", "conditions", "initContainerStatuses", "containerStatuses")
CONDITIONS = ("PodScheduled", "Initialized", "Ready", "DisruptionTarget")
CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
CONTAINER = ("name", "state", "lastState", "ready", "restartCount", "started", "containerID")
TIMES = ("deletionTimestamp", "lastTransitionTime", "startedAt", "finishedAt")


def record(names: Sequence[str]) -> None:
    """Record these scenarios. If none is named, record all."""
    FOLDER.mkdir(exist_ok=True)
    with Cluster(f"traces-{os.getpid()}", progress=print) as cluster:
        for name in names or SCENARIOS:
            print(f"recording {name}")
            lines = _play(cluster, name, SCENARIOS[name])
            (FOLDER / f"{name}.json").write_text(_text(SCENARIOS[name].spec, lines))


def _play(cluster: Cluster, name: str, scenario: Scenario) -> list[tuple[float, Raw]]:
    with connected(cluster.kubeconfig) as api:
        core = client.CoreV1Api(api)
        core.create_namespace({"metadata": {"name": name}})
        with pods(api, name) as log:
            core.create_namespaced_pod(name, {"metadata": {"name": POD}, "spec": scenario.spec})
            scenario.play(ScenarioEnv(cluster, api, name, log))
            log.settle(QUIET_SECONDS)
        core.delete_namespace(name)
        return list(zip(log.times, log.states, strict=True))


def _text(spec: Raw, states: Sequence[tuple[float, Raw]]) -> str:
    """Return the recording as JSON with one line per state, so that diffs are readable."""
    lines = ",\n".join(json.dumps(line) for line in _normal(states))
    return f'{{"spec": {json.dumps(spec)},\n"states": [\n{lines}\n]}}\n'


def _normal(states: Sequence[tuple[float, Raw]]) -> Iterable[Raw]:
    started, first = states[0]
    created = datetime.fromisoformat(first["metadata"]["creationTimestamp"])
    replace = _Replacement(created)
    for arrived, state in states:
        metadata = {key: state["metadata"][key] for key in METADATA if key in state["metadata"]}
        line = {
            "seconds": round(arrived - started, 2),
            "event": state["event"],
            "metadata": {"uid": state["metadata"]["uid"], **metadata},
            "nodeName": state["spec"].get("nodeName"),
            "status": _status(state["status"]),
        }
        yield replace(line)


def _status(status: Raw) -> Raw:
    kept = {key: status[key] for key in STATUS if key in status}
    for key, wanted in (
        ("conditions", CONDITION),
        ("initContainerStatuses", CONTAINER),
        ("containerStatuses", CONTAINER),
    ):
        if key in kept:
            kept[key] = [{k: one[k] for k in wanted if k in one} for one in kept[key]]
    if "conditions" in kept:
        kept["conditions"] = [one for one in kept["conditions"] if one["type"] in CONDITIONS]
    return kept


class _Replacement:
    """Replaces times and IDs by values that are the same in each recording."""

    def __init__(self, created: datetime) -> None:
        self._created = created
        self._names: dict[str, str] = {}

    def __call__(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: self(one, inner) for inner, one in value.items()}
        if isinstance(value, list):
            return [self(one) for one in value]
        if key in TIMES and value:
            return stamp((datetime.fromisoformat(value) - self._created).total_seconds())
        if key in ("containerID", "uid"):
            return self._names.setdefault(value, f"{key}-{len(self._names)}") if value else value
        return value
