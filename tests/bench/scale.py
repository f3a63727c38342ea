"""Measure the start of the operator with many InitPipelines at rest.

The API server has that number of InitPipelines, each with a running Pod, and a few new ones without
a Pod. They are written to etcd as copies of one that the operator has served, because creating
them through the API server would take most of the time.
"""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from initpipeline.api import names
from initpipeline.api.reasons import ConditionType
from tests.bench.connection import Connection, connect
from tests.bench.environment import operator_process, storage
from tests.bench.errors import BenchError
from tests.bench.options import Options
from tests.bench.workloads import NAMESPACE, PIPELINE, PODS_PATH, STEPS, Form, condition
from tests.cluster import audit
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.cluster.processes import Usage
from tests.cluster.progress import Progress
from tests.operator_process import OperatorProcess
from tests.poll import poll_until_stable

NEW: Final = 20
"""InitPipelines that are created while the operator is stopped."""
MODEL: Final = "model-000000"
"""The name of the InitPipeline that is copied. All copies have names of this length."""
AT_ONCE: Final = 100
"""Objects per request to etcd, which allows 128."""
POLL_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 4.0
QUIET_CPU_MS: Final = 50.0
"""If the operator uses less CPU than this in QUIET_SECONDS, its backlog is done. A page of a list
takes less time."""
QUIET_API_SERVER_MS: Final = 100.0
"""If the API server uses less CPU than this in QUIET_SECONDS, it is idle."""
DEADLINE_SECONDS: Final = 300.0
SETTLING_SECONDS: Final = 5.0
"""Between the end of the backlog and the measurement at rest."""


@dataclass(frozen=True)
class Scale:
    """The start of an operator, and what it costs afterwards."""

    pipelines: int
    """The number of InitPipelines at rest."""
    figures: Mapping[str, float]
    """tables.SCALE_ROWS has the keys."""


def measure_all(options: Options, progress: Progress) -> Iterator[Scale]:
    """Take the measurements, and yield each. Raise BenchError if one fails."""
    for number in range(1, options.rounds + 1 if options.scale else 1):
        with storage() as cluster:
            scale = _Scale(cluster, options, progress)
            scale.prepare()
            for pipelines in sorted(options.scale):
                progress(f"{pipelines} pipelines at rest, round {number} of {options.rounds}")
                yield scale.measure(pipelines)


class _Scale:
    """The measurements on one control plane, with growing numbers of pipelines."""

    def __init__(self, cluster: Cluster, options: Options, progress: Progress) -> None:
        self._cluster = cluster
        self._rest_seconds = options.rest_seconds
        self._progress = progress
        self._present = 0
        """The number of pipelines at rest."""
        self._model: dict[str, str] = {}
        """Key in etcd and value of the InitPipeline that is copied, and of its Pod."""

    def prepare(self) -> None:
        """Let the operator serve the InitPipeline that is copied."""
        operator = operator_process(self._cluster)
        with operator:
            self._model = asyncio.run(_served(self._cluster))

    def measure(self, pipelines: int) -> Scale:
        self._progress(f"  writing {pipelines - self._present} pipelines")
        numbers = range(self._present, pipelines)
        asyncio.run(_write(self._cluster.etcd, copies(self._model, numbers)))
        self._present = pipelines
        self._await_quiet()
        operator = operator_process(self._cluster)
        try:
            return Scale(pipelines, asyncio.run(self._figures(operator, pipelines)))
        finally:
            if operator.running:
                operator.stop()

    def _await_quiet(self) -> None:
        """Wait until the API server has read what was written to etcd."""
        pid = self._cluster.pid(Component.API_SERVER)
        assert pid is not None
        api_server = Usage(pid)
        poll_until_stable(
            lambda: api_server.cpu_ms() // QUIET_API_SERVER_MS,
            QUIET_SECONDS,
            DEADLINE_SECONDS,
            "the API server is idle",
        )

    async def _figures(self, operator: OperatorProcess, pipelines: int) -> dict[str, float]:
        async with connect(self._cluster.kubeconfig, 1) as connection:
            created = await _create_new(connection)
            offset = self._cluster.audit_log.stat().st_size
            self._progress("  starting the operator")
            figures = await _start(operator, connection, created)
            usage = Usage(operator.pid)
            figures["start_cpu_ms"] = usage.cpu_ms()
            figures["start_cpu_per_pipeline_ms"] = usage.cpu_ms() / pipelines
            await asyncio.sleep(SETTLING_SECONDS)
            figures |= {"mib": usage.resident_mib(), "peak_mib": usage.peak_mib()}
            figures["start_requests"] = float(self._requests(offset))
            figures |= await self._at_rest(usage)
        await asyncio.to_thread(operator.stop)
        return figures

    async def _at_rest(self, usage: Usage) -> dict[str, float]:
        self._progress(f"  measuring at rest for {self._rest_seconds:.0f} s")
        offset, used = self._cluster.audit_log.stat().st_size, usage.cpu_ms()
        await asyncio.sleep(self._rest_seconds)
        share = (usage.cpu_ms() - used) / self._rest_seconds / 1000
        return {"rest_cpu_percent": share * 100, "rest_requests": float(self._requests(offset))}

    def _requests(self, offset: int) -> int:
        requests = audit.requests(self._cluster.audit_log, offset)
        return sum(one.user == PIPELINE.user for one in requests)


async def _served(cluster: Cluster) -> dict[str, str]:
    """Create an InitPipeline, play the kubelet until it is Ready, and return the key in etcd and
    the value of both objects."""
    async with connect(cluster.kubeconfig, 1) as connection:
        await connection.create(PIPELINE.path, json.dumps(manifest(MODEL)).encode())
        pod = await _until(connection, f"{PODS_PATH}/{MODEL}", lambda _: True)
        target = {"kind": "Node", "name": "node-0"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": MODEL}}
        body = json.dumps({**binding, "target": target}).encode()
        await connection.create(f"{PODS_PATH}/{MODEL}/binding", body)
        await connection.merge(f"{PODS_PATH}/{MODEL}/status", {"status": running_status()})
        pipeline = await _until(connection, f"{PIPELINE.path}/{MODEL}", _is_ready)
        pod = await connection.get(f"{PODS_PATH}/{MODEL}")
    for stored in (pipeline, pod):
        del stored["metadata"]["resourceVersion"]  # etcd's revision
    owners = f"/registry/{names.GROUP}/{names.PLURAL}/{NAMESPACE}"
    return {
        f"/registry/pods/{NAMESPACE}/{MODEL}": json.dumps(pod),
        f"{owners}/{MODEL}": json.dumps(pipeline),
    }


def manifest(name: str) -> dict[str, Any]:
    """Return an InitPipeline whose Pod does not complete."""
    made = PIPELINE.manifest(name, Form.LIFE)
    made["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    return made


def copies(model: Mapping[str, str], numbers: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Yield keys and values of copies. Each has its own names and UIDs."""
    uids = [json.loads(value)["metadata"]["uid"] for value in model.values()]
    for number in numbers:
        replaced = {MODEL: f"rest-{number:07}", **{uid: str(uuid.uuid4()) for uid in uids}}
        for key, value in model.items():
            yield _replaced(key, replaced), _replaced(value, replaced)


def _replaced(text: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


async def _write(etcd: str, objects: Iterable[tuple[str, str]]) -> None:
    """Write the keys and values to etcd."""
    puts = [
        {"requestPut": {"key": _base64(key), "value": _base64(value)}} for key, value in objects
    ]
    async with aiohttp.ClientSession(trust_env=False) as session:
        for start in range(0, len(puts), AT_ONCE):
            body = {"success": puts[start : start + AT_ONCE]}
            async with session.post(f"{etcd}/v3/kv/txn", json=body) as answer:
                if answer.status != 200:
                    raise BenchError(f"etcd refused the objects: {(await answer.text())[:300]}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _create_new(connection: Connection) -> list[str]:
    """Create InitPipelines that have no Pod, and return their names."""
    prefix = uuid.uuid4().hex[:8]
    created = [f"{prefix}-{number}" for number in range(NEW)]
    for name in created:
        await connection.create(PIPELINE.path, json.dumps(manifest(name)).encode())
    return created


async def _start(
    operator: OperatorProcess, connection: Connection, created: list[str]
) -> dict[str, float]:
    """Start the operator. Return the times until its first Pod, until all new InitPipelines have
    one, and until it is at rest."""
    begin = time.monotonic()
    starting = asyncio.create_task(asyncio.to_thread(operator.start))
    figures: dict[str, float] = {}
    used: list[tuple[float, float]] = []
    while not _is_quiet(used) or "last_pod_s" not in figures:
        await asyncio.sleep(POLL_SECONDS)
        now = time.monotonic() - begin
        if now > DEADLINE_SECONDS:
            raise BenchError(f"the operator is not at rest after {DEADLINE_SECONDS:g} s")
        if "last_pod_s" not in figures:
            pods = await _count(connection, created)
            if pods:
                figures.setdefault("first_pod_s", now)
            if pods == len(created):
                figures["last_pod_s"] = now
        if starting.done():
            starting.result()
            used.append((now, Usage(operator.pid).cpu_ms()))
    return {**figures, "backlog_s": used[-1][0] - QUIET_SECONDS}


def _is_quiet(used: list[tuple[float, float]]) -> bool:
    """Return whether the process has used almost no CPU lately. ``used`` has times and the CPU
    until then."""
    if not used:
        return False
    now, last = used[-1]
    earlier = [cpu for at, cpu in used if at <= now - QUIET_SECONDS]
    return bool(earlier) and last - earlier[-1] < QUIET_CPU_MS


async def _count(connection: Connection, created: list[str]) -> int:
    """Return how many of these Pods exist."""
    selector = quote(f"{names.NAME_LABEL} in ({','.join(created)})")
    pods = await connection.get(f"{PODS_PATH}?labelSelector={selector}")
    return len(pods["items"])


async def _until(
    connection: Connection, path: str, is_met: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the object as soon as it exists and meets the condition."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            found = await connection.get(path)
        except BenchError:
            found = None
        if found is not None and is_met(found):
            return found
        await asyncio.sleep(POLL_SECONDS)
    raise BenchError(f"{path} is not ready after {DEADLINE_SECONDS:g} s")


def _is_ready(pipeline: Mapping[str, Any]) -> bool:
    return condition(pipeline.get("status") or {}, ConditionType.READY).get("status") == "True"


def running_status() -> dict[str, Any]:
    """Return the status of a running Pod, as large as that of a kubelet."""
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    since = "2030-01-01T00:00:00Z"
    return {
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "hostIPs": [{"ip": "10.0.0.1"}],
        "podIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.2"}],
        "startTime": since,
        "conditions": [
            {"type": type_, "status": "True", "lastTransitionTime": since} for type_ in types
        ],
        "initContainerStatuses": [_container(f"step-{number}", since) for number in range(STEPS)],
        "containerStatuses": [
            _container("app", since) | {"started": True, "state": {"running": {"startedAt": since}}}
        ],
    }


def _container(name: str, since: str) -> dict[str, Any]:
    id_ = f"containerd://{uuid.uuid4().hex * 2}"
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": since, "finishedAt": since}
    amounts = {"cpu": "10m", "memory": "16Mi"}
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    mount = {"name": "kube-api-access-abcde", "mountPath": token, "readOnly": True}
    return {
        "name": name,
        "image": "registry.test/bench/tool:1.0",
        "imageID": f"registry.test/bench/tool@sha256:{'0' * 64}",
        "containerID": id_,
        "ready": True,
        "started": False,
        "restartCount": 0,
        "lastState": {},
        "state": {"terminated": ended | {"containerID": id_}},
        "allocatedResources": amounts,
        "resources": {"requests": amounts},
        "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
        "volumeMounts": [mount | {"recursiveReadOnly": "Disabled"}],
    }
