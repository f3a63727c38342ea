"""Measure how soon a run follows its cause, for each trigger that can be played on fake nodes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.reasons import ConditionType, RerunStrategy, Trigger
from initpipeline.core import in_place
from tests.bench.connection import Connection, connect
from tests.bench.environment import prepared
from tests.bench.errors import BenchError
from tests.bench.options import Options
from tests.bench.stats import percentile
from tests.bench.watching import current_version, watch
from tests.bench.workloads import PIPELINE, PODS_PATH, Form, condition, container
from tests.cluster.progress import Progress

INTERVAL_SECONDS: Final = 0.2
"""The time between two causes. The operator then never has a queue."""
POLL_SECONDS: Final = 0.02
DEADLINE_SECONDS: Final = 120.0
PARALLEL: Final = 1
NODES_PATH: Final = "/api/v1/nodes"


@dataclass(frozen=True)
class Reruns:
    """The latencies of one trigger in one round."""

    trigger: str
    figures: Mapping[str, float]
    """In ms, from sending the request that is the cause.

    "pod": until a watch reports the Pod of the new run, if it has one. "recorded": until a watch
    reports the new run in the status.
    """


class Subject:
    """A pipeline, and what is observed of the run that follows a cause."""

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        self.name = name
        self.spec = spec
        self.pod: dict[str, Any] = {}
        self.status: dict[str, Any] = {}
        self._before: tuple[str, int] | None = None
        self._caused = 0.0
        self._pod_at: float | None = None
        self._recorded_at: float | None = None

    @property
    def trigger(self) -> str:
        """The trigger of the run in the last observed status."""
        return str(self.status["run"]["trigger"])

    @property
    def path(self) -> str:
        """The API path of the pipeline."""
        return f"{PIPELINE.path}/{self.name}"

    @property
    def pod_path(self) -> str:
        """The API path of its Pod."""
        return f"{PODS_PATH}/{self.name}"

    def is_true(self, type_: ConditionType) -> bool:
        """Return whether the condition is True in the last observed status."""
        return condition(self.status, type_).get("status") == "True"

    def cause(self, now: float) -> None:
        """Begin to wait for a run: the cause is sent at the time `now`."""
        self._caused = now
        self._before = self.pod["metadata"]["uid"], self.status["run"]["number"]

    def pod_changed(self, pod: dict[str, Any], now: float) -> None:
        """Record the state of its Pod, observed at the time `now`."""
        self.pod = pod
        if self._before and self._pod_at is None and pod["metadata"]["uid"] != self._before[0]:
            self._pod_at = now

    def owner_changed(self, owner: dict[str, Any], now: float) -> None:
        """Record its status, observed at the time `now`."""
        self.status = owner.get("status") or {}
        number = self.status.get("run", {}).get("number", 0)
        if self._before and self._recorded_at is None and number > self._before[1]:
            self._recorded_at = now

    def pod_ms(self) -> float | None:
        """Return the time from the cause to the new Pod. None until it is observed."""
        return None if self._pod_at is None else (self._pod_at - self._caused) * 1000

    def recorded_ms(self) -> float | None:
        """Return the time from the cause to the status. None until it is observed."""
        return None if self._recorded_at is None else (self._recorded_at - self._caused) * 1000


Act = Callable[[Connection, Subject], Awaitable[None]]


@dataclass(frozen=True)
class Cause:
    """What makes a run start."""

    trigger: Trigger
    act: Act
    new_pod: bool = True
    """Whether the run has a new Pod."""
    prepare: Act | None = None
    """What happens before the cause, outside of the measured time."""
    prepared: ConditionType = ConditionType.READY
    """The condition that is True when the preparation has taken effect."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the pipeline's spec besides the template."""


async def _delete_pod(connection: Connection, subject: Subject) -> None:
    """Delete the Pod without a grace period, so that only the operator's time is measured."""
    await connection.delete(subject.pod_path, {"gracePeriodSeconds": 0})


async def _change_template(connection: Connection, subject: Subject) -> None:
    containers = [container("app") | {"image": "registry.test/bench/tool:1.1"}]
    template = {"spec": {"containers": containers}}
    await connection.merge(subject.path, {"spec": {"template": template}})


async def _request(connection: Connection, subject: Subject) -> None:
    annotations = {names.RERUN_ANNOTATION: subject.name}
    await connection.merge(subject.path, {"metadata": {"annotations": annotations}})


async def _suspend(connection: Connection, subject: Subject) -> None:
    await connection.merge(subject.path, {"spec": {"suspend": True}})


async def _resume(connection: Connection, subject: Subject) -> None:
    await connection.merge(subject.path, {"spec": {"suspend": False}})


async def _restart_container(connection: Connection, subject: Subject) -> None:
    status = container_restarted(subject.pod["status"], _now())
    await connection.merge(f"{subject.pod_path}/status", {"status": status})


async def _restart_sandbox(connection: Connection, subject: Subject) -> None:
    status = sandbox_restarted(subject.pod["status"], _now())
    await connection.merge(f"{subject.pod_path}/status", {"status": status})


async def _restart_in_place(connection: Connection, subject: Subject) -> None:
    status = restarted_in_place(subject.pod["status"], _now())
    await connection.merge(f"{subject.pod_path}/status", {"status": status})


CAUSES: Final = (
    Cause(Trigger.POD_LOST, _delete_pod),
    Cause(Trigger.SPEC_CHANGED, _change_template),
    Cause(Trigger.REQUESTED, _request),
    Cause(
        Trigger.RESUMED,
        _resume,
        prepare=_suspend,
        prepared=ConditionType.SUSPENDED,
    ),
    Cause(Trigger.CONTAINER_RESTARTED, _restart_container),
    Cause(Trigger.POD_RESTARTED, _restart_sandbox, new_pod=False),
    Cause(
        Trigger.RESTARTED_IN_PLACE,
        _restart_in_place,
        new_pod=False,
        spec={"rerunStrategy": RerunStrategy.IN_PLACE},
    ),
)


def container_restarted(status: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return what the kubelet changes in a Pod's status after it has restarted the app container.

    tests/traces/recorded/app-exits.json has the statuses of a kubelet.
    """
    (app,) = status["containerStatuses"]
    return {"containerStatuses": [_restarted(app, now, exit_code=1)]}


def sandbox_restarted(status: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return what the kubelet changes in a Pod's status after it has re-created the sandbox.

    tests/traces/recorded/sandbox-killed.json has the statuses of a kubelet.
    """
    first, *others = status["initContainerStatuses"]
    (app,) = status["containerStatuses"]
    ended = {"ready": False, "started": False, "state": {"terminated": _ended(app, now, 137)}}
    return {
        **_unready(status, now),
        "initContainerStatuses": [
            _restarted(first, now, exit_code=0) | {"ready": False},
            *others,
        ],
        "containerStatuses": [app | ended],
    }


def restarted_in_place(status: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return what the kubelet changes in a Pod's status after it has restarted all containers.

    tests/traces/recorded/restarted-in-place.json has the statuses of a kubelet.
    """
    removed = {
        "lastState": {"terminated": {"exitCode": 137, "reason": "RestartingAllContainers"}},
        "ready": False,
    }
    waiting = {"state": {"waiting": {"reason": "PodInitializing"}}, "started": False}
    first, *others = status["initContainerStatuses"]
    return {
        **_unready(status, now),
        "initContainerStatuses": [
            _restarted(first, now, exit_code=137) | removed,
            *(_without_id(one) | removed | waiting for one in others),
        ],
        "containerStatuses": [
            _without_id(one) | removed | waiting for one in status["containerStatuses"]
        ],
    }


def _without_id(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of a container that is removed and not yet created again."""
    kept = {key: value for key, value in status.items() if key != "containerID"}
    return kept | {"restartCount": status["restartCount"] + 1}


def _unready(status: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return the phase and the conditions while init containers run again."""
    unready = {"status": "False", "reason": "ContainersNotReady", "lastTransitionTime": now}
    conditions = [
        one | (unready if one["type"] in ("Ready", "ContainersReady") else {})
        for one in status["conditions"]
    ]
    return {"phase": "Pending", "conditions": conditions}


def _restarted(status: Mapping[str, Any], now: str, exit_code: int) -> dict[str, Any]:
    """Return the status of a container that runs again, with another ID."""
    restarts = status["restartCount"] + 1
    return {
        **status,
        "restartCount": restarts,
        "containerID": f"{status['containerID']}-{restarts}",
        "started": True,
        "state": {"running": {"startedAt": now}},
        "lastState": {"terminated": _ended(status, now, exit_code)},
    }


def _ended(status: Mapping[str, Any], now: str, exit_code: int) -> dict[str, Any]:
    state = status["state"]
    if "terminated" in state:
        return dict(state["terminated"])
    return {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "startedAt": state["running"]["startedAt"],
        "finishedAt": now,
        "containerID": status["containerID"],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def measure_all(options: Options, progress: Progress) -> Iterator[list[Reruns]]:
    """Take the measurements, and yield those of each round. Raise BenchError if one fails."""
    for number in range(1, options.rounds + 1 if options.reruns else 1):
        progress(f"re-runs, round {number} of {options.rounds}")
        with prepared(PIPELINE, Form.LIFE, progress) as env:
            yield asyncio.run(_round(env.cluster.kubeconfig, options.reruns or 0, progress))


async def _round(kubeconfig: Path, runs: int, progress: Progress) -> list[Reruns]:
    subjects = {
        cause.trigger: [
            Subject(f"{cause.trigger.lower()}-{number:04}", cause.spec) for number in range(runs)
        ]
        for cause in CAUSES
    }
    every = [one for several in subjects.values() for one in several]
    reruns = []
    async with connect(kubeconfig, PARALLEL) as connection, _watched(connection, every):
        progress(f"  creating {len(every)} pipelines")
        await _declare_features(connection)
        await _create(connection, every)
        for cause in CAUSES:
            progress(f"  {cause.trigger}: {runs} runs")
            reruns.append(await _measure(connection, cause, subjects[cause.trigger]))
    return reruns


@asynccontextmanager
async def _watched(connection: Connection, subjects: Sequence[Subject]) -> AsyncIterator[None]:
    """Record all changes of the subjects during the context. Raise BenchError if a watch fails."""
    by_name = {subject.name: subject for subject in subjects}

    def pod_changed(pod: dict[str, Any], now: float) -> None:
        by_name[pod["metadata"]["name"]].pod_changed(pod, now)

    def owner_changed(owner: dict[str, Any], now: float) -> None:
        by_name[owner["metadata"]["name"]].owner_changed(owner, now)

    pods = await current_version(connection, PODS_PATH)
    owners = await current_version(connection, PIPELINE.path)
    async with asyncio.TaskGroup() as watches:
        tasks = [
            watches.create_task(watch(connection, PODS_PATH, pods, pod_changed)),
            watches.create_task(watch(connection, PIPELINE.path, owners, owner_changed)),
        ]
        yield
        for task in tasks:
            task.cancel()


async def _declare_features(connection: Connection) -> None:
    """Make the scheduler assign Pods with RestartAllContainers rules to the fake nodes."""
    for node in (await connection.get(NODES_PATH))["items"]:
        path = f"{NODES_PATH}/{node['metadata']['name']}/status"
        await connection.merge(path, {"status": {"declaredFeatures": [in_place.FEATURE]}})


async def _create(connection: Connection, subjects: Sequence[Subject]) -> None:
    for subject in subjects:
        manifest = PIPELINE.manifest(subject.name, Form.LIFE)
        manifest["spec"]["template"]["spec"]["restartPolicy"] = "Always"
        manifest["spec"] |= subject.spec
        await connection.create(PIPELINE.path, json.dumps(manifest).encode())
    await _all(subjects, _ready, "is Ready")


async def _measure(connection: Connection, cause: Cause, subjects: Sequence[Subject]) -> Reruns:
    """Cause a run of each subject, and wait until all are Ready again."""
    if cause.prepare:
        for subject in subjects:
            await cause.prepare(connection, subject)
        await _all(subjects, lambda one: one.is_true(cause.prepared), f"is {cause.prepared}")
    for subject in subjects:
        subject.cause(time.monotonic())
        await cause.act(connection, subject)
        await asyncio.sleep(INTERVAL_SECONDS)
    await _all(subjects, lambda one: one.recorded_ms() is not None, f"records {cause.trigger}")
    if cause.new_pod:
        await _all(subjects, lambda one: one.pod_ms() is not None, f"has a Pod: {cause.trigger}")
        await _all(subjects, _ready, f"is Ready again after {cause.trigger}")
    return result(cause, subjects)


def result(cause: Cause, subjects: Sequence[Subject]) -> Reruns:
    """Return the latencies. Raise BenchError if a run has another trigger."""
    for subject in subjects:
        if subject.trigger != cause.trigger:
            raise BenchError(f"{subject.name} has a run with the trigger {subject.trigger}")
    times = {"pod": [one.pod_ms() for one in subjects] if cause.new_pod else []}
    times["recorded"] = [one.recorded_ms() for one in subjects]
    figures = {
        f"{name}_p{percent}_ms": percentile(
            [value for value in values if value is not None], percent
        )
        for name, values in times.items()
        for percent in (50, 99)
        if values
    }
    return Reruns(cause.trigger, figures)


def _ready(subject: Subject) -> bool:
    return subject.is_true(ConditionType.READY)


async def _all(
    subjects: Sequence[Subject], condition: Callable[[Subject], bool], what: str
) -> None:
    """Wait until all subjects meet the condition. Raise BenchError if one does not in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while missing := [one.name for one in subjects if not condition(one)]:
        if time.monotonic() > deadline:
            raise BenchError(f"not within {DEADLINE_SECONDS:g} s: {missing[0]} {what}")
        await asyncio.sleep(POLL_SECONDS)
