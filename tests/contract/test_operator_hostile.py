"""Hostile objects of a user of one namespace do not stop the operator, prevent its start, exhaust
its memory, or delay a pipeline in another namespace."""

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.api_client import manifest
from tests.builders import NAME, pipeline
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import condition

pytest_plugins = ["tests.contract.operator_fixtures"]

LIMIT = 1536 * 1024
"""The size limit of a request to etcd, in bytes."""
LARGE_PIPELINES = 60
LARGE_BYTES = 1_300_000
AFTER_MANY_SECONDS = 180.0
"""Time for the API server to list 80 MB, and for the operator to read them."""

RUN_NUMBERS = [
    "9" * 4301,
    "-1",
    "0",
    "\N{SUPERSCRIPT TWO}",
    "\N{FULLWIDTH DIGIT ONE}",
    "2147483647",
    str(2**63),
    "1e3",
    " 1",
]

QUANTITIES = [
    "-1e999990",
    "-1e999999",
    "1e-999999",
    "1e999990",
    "1" * 100_000 + "..",
    "1" * 100_000 + "x",
    "." * 1000,
    "0." + "3" * 100_000,
]


@pytest.fixture
def process(control_plane: Cluster, user: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Returns an operator of all namespaces that was not started yet."""
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    process = OperatorProcess(kubeconfig, tmp_path / "op.log", ["--sweep-seconds", "1"])
    yield process
    if process.running:
        process.kill()


@pytest.fixture
def other(api: client.ApiClient) -> ContractEnv:
    """Returns the namespace of another tenant."""
    return ContractEnv.new(api)


def check_served(env: ContractEnv, seconds: float = TIMEOUT_SECONDS) -> None:
    """Create a pipeline and wait for its Pod. Without the tested limits that takes minutes, so the
    usual timeout is enough."""
    env.create()
    poll_until(env.pod, seconds, "the Pod of another namespace", state=env.status)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"f:a": value}
    return value


def owned_fields(levels: int) -> list[dict[str, Any]]:
    """managedFields, whose content the API server barely validates."""
    return [
        {
            "manager": "anyone",
            "operation": "Update",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": nested(levels),
        }
    ]


def labelled_pod(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {names.NAME_LABEL: name}, **metadata},
        "spec": {
            "automountServiceAccountToken": False,
            "initContainers": [{"name": "one", "image": "none.test/none"}],
            "containers": [{"name": "app", "image": "none.test/none"}],
        },
    }


def with_cpu(quantity: str) -> Any:
    container = {"name": "app", "image": "nginx", "resources": {"requests": {"cpu": quantity}}}
    spec = {"initContainers": [{"name": "one", "image": "busybox"}], "containers": [container]}
    return pipeline().with_template({"spec": spec})


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda text: text[:12])
def test_expensive_quantity_does_not_delay_another_pipeline(
    process: OperatorProcess, env: ContractEnv, other: ContractEnv, quantity: str
) -> None:
    process.start()
    # An object that the schema refuses does no harm either.
    with contextlib.suppress(client.ApiException):
        env.create(with_cpu(quantity))
    check_served(other)


def post_deep(api: client.ApiClient, path: str, body: dict[str, Any]) -> None:
    """Create an object with deeply nested fields, which the client's JSON encoder refuses."""
    fields = body["metadata"].pop("managedFields", None)
    text = json.dumps(body)
    if fields:
        deep = '{"f:a":' * 3000 + "{}" + "}" * 3000
        one = json.dumps(owned_fields(0)[0]).replace('"fieldsV1": {}', f'"fieldsV1": {deep}')
        text = text.replace('"metadata": {', f'"metadata": {{"managedFields": [{one}], ', 1)
    api.rest_client.pool_manager.request(
        "POST",
        api.configuration.host + path,
        body=text,
        headers={"Content-Type": "application/json"},
    )


def hostile_pods(api: client.ApiClient, namespace: str) -> None:
    """Create Pods, which needs only ``create`` and ``delete`` on ``pods`` and ``pods/status``."""
    core = client.CoreV1Api(api)
    for index, number in enumerate(RUN_NUMBERS):
        annotations = {names.RUN_ANNOTATION: number}
        core.create_namespaced_pod(namespace, labelled_pod(f"r{index}", annotations=annotations))
    path = f"/api/v1/namespaces/{namespace}/pods"
    post_deep(api, path, labelled_pod("deep", managedFields=True))
    for name, status in HOSTILE_STATUSES.items():
        core.create_namespaced_pod(namespace, labelled_pod(name))
        patch = core.patch_namespaced_pod_status
        patch(name, namespace, {"status": status}, _preload_content=False)
    for name, grace in (("g1", 10**9), ("g2", 10**10), ("g3", 2**62)):
        core.create_namespaced_pod(namespace, labelled_pod(name))
        target = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}}
        core.create_namespaced_pod_binding(name, namespace, target, _preload_content=False)
        delete = core.delete_namespaced_pod
        delete(name, namespace, grace_period_seconds=grace, _preload_content=False)


def reported(**status: Any) -> dict[str, Any]:
    plain = {"name": "one", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    return {"initContainerStatuses": [{**plain, **status}]}


def ended(**end: Any) -> dict[str, Any]:
    return reported(state={"terminated": {"exitCode": 0, **end}})


HOSTILE_STATUSES: dict[str, dict[str, Any]] = {
    "phase": {"phase": "Foo"},
    "half-a-condition": {"conditions": [{"type": "Ready"}]},
    "twice": {"conditions": [{"type": "Ready", "status": value} for value in ("True", "False")]},
    "year-0": {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": "0001-01-01T00:00:00+23:59",
            }
        ]
    },
    "year-10000": {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": "9999-12-31T23:59:59-23:59",
            }
        ]
    },
    "no-name": reported(name=""),
    "negative": reported(restartCount=-5),
    "most": reported(restartCount=2**31 - 1),
    "exit": ended(exitCode=-(2**31), signal=-4),
    "ends-in-10000": ended(finishedAt="9999-12-31T23:59:59-23:59"),
    "long": reported(containerID="x://" + "y" * 5000),
}


def test_operator_starts_and_serves_despite_unreadable_foreign_pods(
    process: OperatorProcess, api: client.ApiClient, env: ContractEnv, other: ContractEnv
) -> None:
    hostile_pods(api, env.namespace)
    process.start()
    check_served(other)
    assert process.running


def test_own_pod_with_extreme_values_is_mirrored(
    process: OperatorProcess, env: ContractEnv
) -> None:
    """The mirror has each value that a custom resource can store."""
    process.start()
    env.create()
    env.wait_for_pod(1)
    env.bind()
    core = client.CoreV1Api(env.api)
    for status in HOSTILE_STATUSES.values():
        if "initContainerStatuses" not in status or not status["initContainerStatuses"][0]["name"]:
            continue
        patch = core.patch_namespaced_pod_status
        patch(NAME, env.namespace, {"status": status}, _preload_content=False)
        [raw] = status["initContainerStatuses"]
        env.wait(f"the mirror of {raw}", functools.partial(_shows_count, raw["restartCount"]))
    assert process.running


def _shows_count(count: int, status: dict[str, Any]) -> bool:
    """Returns whether the mirror has this count. It is absent until the first status is written."""
    mirror = status.get("initContainerStatuses", ())
    return [step["restartCount"] for step in mirror][:1] == [count]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"number": 2**31 - 1}, "status.run.number", id="last number"),
        pytest.param({"startTime": "2030-01-01T00:00:00+99:99"}, "status.run.startTime", id="time"),
    ],
)
def test_unreadable_pipeline_is_stalled_with_the_field(
    process: OperatorProcess,
    env: ContractEnv,
    other: ContractEnv,
    change: dict[str, Any],
    field: str,
) -> None:
    env.create()
    run = {"number": 1, "trigger": "Created", "startTime": "2030-01-01T00:00:00Z", **change}
    env.pipelines.patch_status(NAME, {"run": run})
    process.start()
    env.wait("Stalled", lambda status: condition(status, "Stalled")["status"] == "True")
    stalled = condition(env.status(), "Stalled")
    assert stalled["reason"] == "Unreadable"
    assert stalled["message"].startswith(field)
    assert env.pod() is None
    check_served(other)
    env.pipelines.patch_status(NAME, {"run": None})
    env.wait_for_pod(1)


def large(size: int) -> Any:
    """Returns a pipeline with one argument of this size. The API server would take a second for the
    same size in many small fields."""
    container = {"name": "app", "image": "nginx", "args": ["x" * size]}
    spec = {"initContainers": [{"name": "one", "image": "busybox"}], "containers": [container]}
    return pipeline().with_template({"spec": spec})


def events(env: ContractEnv) -> list[Any]:
    listed = client.EventsV1Api(env.api).list_namespaced_event(env.namespace)
    return [event for event in listed.items if event.regarding.kind == names.KIND]


def test_status_that_is_too_large_omits_the_mirror(
    process: OperatorProcess, env: ContractEnv
) -> None:
    process.start()
    env.create(large(LIMIT - 18_000))
    env.wait(
        "the list of omitted fields", lambda status: "initContainerStatuses" in omitted(status)
    )
    assert "initContainerStatuses" not in env.status()
    env.wait_for_pod(1)


def omitted(status: dict[str, Any]) -> str:
    return str(status.get("omitted", ""))


def test_status_that_cannot_be_written_is_reported_as_an_event(
    process: OperatorProcess, env: ContractEnv, other: ContractEnv
) -> None:
    create_the_largest(env)
    process.start()
    matching = poll_until(
        lambda: [e for e in events(env) if e.reason == "StatusNotWritten"],
        TIMEOUT_SECONDS,
        "the event",
    )
    assert "too large" in matching[0].note
    check_served(other)


def create_the_largest(env: ContractEnv) -> None:
    """Create the largest pipeline that the API server stores, in steps of 100 bytes."""
    for size in range(LIMIT, LIMIT - 10_000, -100):
        with contextlib.suppress(client.ApiException):
            env.create(large(size))
            return
    raise AssertionError("the API server stores no pipeline of these sizes")


def peak(process: OperatorProcess) -> int:
    """Returns the peak memory of the process, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(value) * 1024


def test_large_pipelines_need_less_memory_than_their_size(
    process: OperatorProcess,
    api: client.ApiClient,
    env: ContractEnv,
    other: ContractEnv,
    kubectl: Kubectl,
) -> None:
    """The operator lists them at its start, and receives them again when all of them change. It
    serves another pipeline once it has read them."""
    process.start()
    without = peak(process)
    process.kill()
    raw = large(LARGE_BYTES).raw()
    for index in range(LARGE_PIPELINES):
        env.pipelines.create(manifest(f"big{index}", raw["spec"]))
    limit = without + LARGE_PIPELINES * LARGE_BYTES
    try:
        process.start()
        check_served(other, AFTER_MANY_SECONDS)
        assert peak(process) < limit
        kubectl("-n", env.namespace, "annotate", names.PLURAL, "--all", "touched=1")
        check_served(ContractEnv.new(api), AFTER_MANY_SECONDS)
        assert peak(process) < limit
    finally:  # Each later operator of all namespaces would list them.
        kubectl("-n", env.namespace, "delete", names.PLURAL, "--all", "--wait=false")
