"""Objects that a user of one namespace can write. None stops the operator, keeps it from starting,
exhausts its memory, or delays a pipeline of another namespace."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from initpipeline.api import names
from tests.builders import NAME, pipeline
from tests.cluster.cluster import Cluster
from tests.contract.operator_world import PATIENCE, World, condition, until
from tests.operator_process import OperatorProcess

pytest_plugins = ["tests.contract.operator_fixtures"]

DEPLOYMENT = Path(__file__).parents[2] / "manifests/base/deployment.yaml"
MIB = 2**20
LIMIT = 1536 * 1024
"""Bytes that etcd stores of an object, and of what surrounds it."""
AFTER_MANY_SECONDS = 180.0
"""For the API server to list 200 MB, and for the operator to read them."""
UNITS = {"Mi": MIB, "Gi": 1024 * MIB}

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
    """An operator of all namespaces, not started yet."""
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    process = OperatorProcess(kubeconfig, tmp_path / "op.log", ["--sweep-seconds", "1"])
    yield process
    if process.running:
        process.kill()


@pytest.fixture
def other(api: client.ApiClient) -> World:
    """The namespace of another tenant."""
    return World.new(api)


def served(world: World, seconds: float = PATIENCE) -> None:
    """Create a pipeline and wait for its Pod. Without the tested limits that takes minutes, so the
    usual timeout is enough."""
    world.create()
    until(world.pod, "the Pod of another namespace", world.status, seconds)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"f:a": value}
    return value


def owned_fields(levels: int) -> list[dict[str, Any]]:
    """managedFields, whose content the API server barely validates."""
    return [
        {
            "manager": "somebody",
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
def test_quantity_that_takes_long_to_compute_delays_no_other_pipeline(
    process: OperatorProcess, world: World, other: World, quantity: str
) -> None:
    process.start()
    # An object that the schema refuses does no harm either.
    with contextlib.suppress(client.ApiException):
        world.create(with_cpu(quantity))
    served(other)


def post_deep(api: client.ApiClient, path: str, body: dict[str, Any]) -> None:
    """The client's own encoder does not go that deep."""
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
    """Pods that need only the permissions ``create pods``, ``delete pods`` and ``pods/status``."""
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


def test_foreign_pods_with_unreadable_values_operator_starts_and_serves(
    process: OperatorProcess, api: client.ApiClient, world: World, other: World
) -> None:
    hostile_pods(api, world.namespace)
    process.start()
    served(other)
    assert process.running


def test_own_pods_with_unreadable_values_are_mirrored(
    process: OperatorProcess, world: World
) -> None:
    """As far as a custom resource can have the values."""
    process.start()
    world.create()
    world.wait_for_pod(1)
    world.bind()
    core = client.CoreV1Api(world.api)
    for status in HOSTILE_STATUSES.values():
        if "initContainerStatuses" not in status or not status["initContainerStatuses"][0]["name"]:
            continue
        patch = core.patch_namespaced_pod_status
        patch(NAME, world.namespace, {"status": status}, _preload_content=False)
        [raw] = status["initContainerStatuses"]
        world.wait(f"the mirror of {raw}", functools.partial(_shows_count, raw["restartCount"]))
    assert process.running


def _shows_count(count: int, status: dict[str, Any]) -> bool:
    return bool(status["initContainerStatuses"][0]["restartCount"] == count)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"number": 2**31 - 1}, "status.run.number", id="last number"),
        pytest.param({"startTime": "2030-01-01T00:00:00+99:99"}, "status.run.startTime", id="time"),
    ],
)
def test_pipeline_that_cannot_be_read_is_reported_on_itself(
    process: OperatorProcess, world: World, other: World, change: dict[str, Any], field: str
) -> None:
    world.create()
    run = {"number": 1, "trigger": "Created", "startTime": "2030-01-01T00:00:00Z", **change}
    place = (names.GROUP, names.VERSION, world.namespace, names.PLURAL, NAME)
    custom = client.CustomObjectsApi(world.api)
    custom.patch_namespaced_custom_object_status(*place, {"status": {"run": run}})
    process.start()
    world.wait("Stalled", lambda status: condition(status, "Stalled")["status"] == "True")
    stalled = condition(world.status(), "Stalled")
    assert stalled["reason"] == "Unreadable"
    assert stalled["message"].startswith(field)
    assert world.pod() is None
    served(other)
    custom.patch_namespaced_custom_object_status(*place, {"status": {"run": None}})
    world.wait_for_pod(1)


def large(size: int) -> Any:
    """Of one long argument: the API server takes a second for one of many small fields."""
    container = {"name": "app", "image": "nginx", "args": ["x" * size]}
    spec = {"initContainers": [{"name": "one", "image": "busybox"}], "containers": [container]}
    return pipeline().with_template({"spec": spec})


def events(world: World) -> list[Any]:
    listed = client.EventsV1Api(world.api).list_namespaced_event(world.namespace)
    return [event for event in listed.items if event.regarding.kind == names.KIND]


def test_status_without_room_leaves_out_the_mirror(process: OperatorProcess, world: World) -> None:
    process.start()
    world.create(large(LIMIT - 20_000))
    world.wait("what is left out", lambda status: "initContainerStatuses" in omitted(status))
    assert "initContainerStatuses" not in world.status()
    world.wait_for_pod(1)


def omitted(status: dict[str, Any]) -> str:
    return str(status.get("omitted", ""))


def test_status_that_cannot_be_written_at_all_is_an_event(
    process: OperatorProcess, world: World, other: World
) -> None:
    create_the_largest(world)
    process.start()
    found = until(
        lambda: [e for e in events(world) if e.reason == "StatusNotWritten"], "the event", dict
    )
    assert "too large" in found[0].note
    served(other)


def create_the_largest(world: World) -> None:
    """The pipeline with the largest template that the API server stores, to 100 bytes."""
    for size in range(LIMIT, LIMIT - 10_000, -100):
        with contextlib.suppress(client.ApiException):
            world.create(large(size))
            return
    raise AssertionError("none of these sizes is stored")


def memory_limit() -> int:
    documents = yaml.safe_load_all(DEPLOYMENT.read_text())
    [deployment] = [one for one in documents if one and one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    written = container["resources"]["limits"]["memory"]
    return int(written[:-2]) * UNITS[written[-2:]]


def peak(process: OperatorProcess) -> int:
    """Returns the peak memory of the process, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(value) * 1024


def test_large_pipelines_do_not_exceed_the_memory_limit(
    process: OperatorProcess,
    api: client.ApiClient,
    world: World,
    other: World,
    kubectl: Callable[..., str],
) -> None:
    """When they are listed at the start, and when all of them change. A pipeline that comes after
    them is served once they were read."""
    custom = client.CustomObjectsApi(api)
    place = (names.GROUP, names.VERSION, world.namespace, names.PLURAL)
    raw = large(1_300_000).raw()
    for index in range(150):
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": f"big{index}"},
            "spec": raw["spec"],
        }
        custom.create_namespaced_custom_object(*place, body)
    process.start()
    served(other, AFTER_MANY_SECONDS)
    assert peak(process) < memory_limit()
    kubectl("-n", world.namespace, "annotate", names.PLURAL, "--all", "touched=1")
    served(World.new(api), AFTER_MANY_SECONDS)
    assert peak(process) < memory_limit()
