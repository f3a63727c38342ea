"""The policy manifests/base/guard.yaml refuses requests of an attacker with the operator's token,
and permits those of the operator.

The attacker has all permissions here, so only the policy refuses. The operator has only those of
its role, in one namespace.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, allow, connected, manifest, refusal
from tests.builders import NAME, outage_tolerations, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.admission_client import minimal_template
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, create_namespace
from tests.installation import BASE, rules
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import is_ready

OPERATOR: Final = "system:serviceaccount:initpipeline-system:initpipeline"
TAKES_EFFECT_SECONDS: Final = 30
GATE: Final = {"name": names.RUN_GATE}
LONG_NAME: Final = "n" * 63


def owner(name: str, **changes: Any) -> Raw:
    """Returns the ownerReference that the operator sets on the Pod of this name."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": name,
        "uid": "11111111-1111-1111-1111-111111111111",
        "controller": True,
        **changes,
    }


def pod(name: str, *owners: Raw, **spec: Any) -> Raw:
    return {
        "metadata": {"name": name, "ownerReferences": list(owners)},
        "spec": {**minimal_template()["spec"], **spec},
    }


@pytest.fixture(scope="module")
def places(api: client.ApiClient, kubectl: Kubectl) -> dict[str, str]:
    """Returns the namespaces of the tests."""
    kubectl("apply", "-f", str(BASE / "namespace.yaml"))
    return {"tenant": create_namespace(api)}


@pytest.fixture(scope="module")
def attacker(control_plane: Cluster, kubectl: Kubectl) -> Iterator[client.ApiClient]:
    """Yields a client with the name of the operator and all permissions, under the policies."""
    kubeconfig = control_plane.kubeconfig_for(OPERATOR, ["system:masters"])
    policies = [str(BASE / name) for name in ("guard.yaml", "requester.yaml")]
    with connected(kubeconfig) as attacker:

        def is_refused() -> bool:
            create = client.CoreV1Api(attacker).create_namespaced_pod
            return refusal(lambda: create("default", pod("a"), dry_run="All")) is not None

        assert not is_refused()
        kubectl("apply", *(part for file in policies for part in ("-f", file)))
        poll_until(is_refused, TAKES_EFFECT_SECONDS, "the policies are in force")
        yield attacker
        kubectl("delete", *(part for file in policies for part in ("-f", file)))
        poll_until(lambda: not is_refused(), TAKES_EFFECT_SECONDS, "the policies are gone")


def expect_refusal(request: Callable[[], Any], message: str) -> None:
    error = refusal(request)
    assert error is not None, "the request was accepted"
    assert error.status == 403
    assert "guard.initpipelines.initpipeline.dev" in str(error.body)
    assert message in str(error.body)


NOT_OWNED: Final = "only Pods whose controller is the InitPipeline of the same name"
NOT_HERE: Final = "the operator creates no Pods in the namespace"
NO_CHANGE: Final = "removes its own scheduling gate"

NOT_A_CHILD: Final[dict[str, Raw]] = {
    "no owner": pod("a"),
    "owner that is not the controller": pod("a", owner("a", controller=False)),
    "owner without the field controller": pod(
        "a", {key: value for key, value in owner("a").items() if key != "controller"}
    ),
    "owner of another name": pod("a", owner("b")),
    "owner of another kind": pod("a", owner("a", kind="Job", apiVersion="batch/v1")),
    "owner of another group": pod("a", owner("a", apiVersion="example.com/v1")),
    "group with the same beginning": pod("a", owner("a", apiVersion="initpipeline.dev.evil/v1")),
    "label instead of an owner": {
        **pod("a"),
        "metadata": {"name": "a", "labels": {names.NAME_LABEL: "a"}},
    },
    "generated name": {
        **pod("a"),
        "metadata": {"generateName": "a-", "ownerReferences": [owner("a")]},
    },
}


@pytest.mark.parametrize("body", NOT_A_CHILD.values(), ids=NOT_A_CHILD)
class TestPodOfNoPipeline:
    def test_is_not_created(
        self, attacker: client.ApiClient, places: dict[str, str], body: Raw
    ) -> None:
        create = client.CoreV1Api(attacker).create_namespaced_pod
        expect_refusal(lambda: create(places["tenant"], body), NOT_OWNED)

    def test_is_not_deleted(
        self, api: client.ApiClient, attacker: client.ApiClient, places: dict[str, str], body: Raw
    ) -> None:
        namespace = places["tenant"]
        created = client.CoreV1Api(api).create_namespaced_pod(namespace, body)
        name = created.metadata.name
        victim = client.CoreV1Api(attacker)
        expect_refusal(lambda: victim.delete_namespaced_pod(name, namespace), NOT_OWNED)
        expect_refusal(lambda: victim.delete_collection_namespaced_pod(namespace), NOT_OWNED)
        client.CoreV1Api(api).delete_namespaced_pod(name, namespace, grace_period_seconds=0)


@pytest.fixture
def shared(api: client.ApiClient, places: dict[str, str]) -> Raw:
    """Returns a Pod of an InitPipeline, which another object owns as well."""
    found = client.CoreV1Api(api).read_namespace(places["tenant"])
    second = {"apiVersion": "v1", "kind": "Namespace", "name": found.metadata.name}
    return pod("shared", owner("shared"), {**second, "uid": found.metadata.uid})


class TestPodWithASecondOwner:
    """The garbage collector keeps such a Pod, also if its InitPipeline does not exist."""

    def test_is_not_created(
        self, attacker: client.ApiClient, places: dict[str, str], shared: Raw
    ) -> None:
        create = client.CoreV1Api(attacker).create_namespaced_pod
        expect_refusal(lambda: create(places["tenant"], shared), "creates Pods with one owner")

    def test_is_deleted(
        self, api: client.ApiClient, attacker: client.ApiClient, places: dict[str, str], shared: Raw
    ) -> None:
        """A user has added the owner to a Pod of the operator."""
        client.CoreV1Api(api).create_namespaced_pod(places["tenant"], shared)
        client.CoreV1Api(attacker).delete_namespaced_pod("shared", places["tenant"])


RESTRICTED: Final = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
UNPRIVILEGED: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""These satisfy Pod Security in the operator's namespace."""


@pytest.mark.parametrize("namespace", ["kube-system", "initpipeline-system"])
def test_pod_of_a_pipeline_is_not_created_in_a_protected_namespace(
    attacker: client.ApiClient, places: dict[str, str], namespace: str
) -> None:
    assert places
    create = client.CoreV1Api(attacker).create_namespaced_pod
    body = pod("a", owner("a"), securityContext=RESTRICTED)
    for container in (*body["spec"]["initContainers"], *body["spec"]["containers"]):
        container["securityContext"] = UNPRIVILEGED
    expect_refusal(lambda: create(namespace, body), NOT_HERE)


@pytest.fixture
def child(api: client.ApiClient, attacker: client.ApiClient) -> Iterator[str]:
    """Creates a Pod with the operator's account, owned by an InitPipeline and gated. Returns its
    namespace. Its name is "child"."""
    namespace = create_namespace(api)
    gates = [{"name": "example.com/other"}, GATE]
    body = pod("child", owner("child"), schedulingGates=gates)
    body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
    client.CoreV1Api(attacker).create_namespaced_pod(namespace, body)
    yield namespace
    client.CoreV1Api(api).delete_namespaced_pod("child", namespace, grace_period_seconds=0)


CHANGES: Final[dict[str, Raw]] = {
    "image": {"spec": {"containers": [{"name": "app", "image": "evil"}]}},
    "image of a step": {"spec": {"initContainers": [{"name": "step", "image": "evil"}]}},
    "deadline": {"spec": {"activeDeadlineSeconds": 1}},
    "toleration": {"spec": {"tolerations": [*outage_tolerations(300), {"operator": "Exists"}]}},
    "node selector of a gated Pod": {"spec": {"nodeSelector": {"a": "b"}}},
    "affinity of a gated Pod": {
        "spec": {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
                        ]
                    }
                }
            }
        }
    },
    "gate of another owner": {
        "spec": {"schedulingGates": [{"name": "example.com/other", "$patch": "delete"}]}
    },
    "label": {"metadata": {"labels": {"a": "b"}}},
    "annotation": {"metadata": {"annotations": {"a": "b"}}},
    "finalizer": {"metadata": {"finalizers": ["example.com/wait"]}},
}
WITHOUT_GATE: Final[Raw] = {
    "spec": {"schedulingGates": [{**GATE, "$patch": "delete"}]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("ungate", [False, True], ids=["alone", "with the gate"])
def test_pod_is_not_changed(
    attacker: client.ApiClient, child: str, change: Raw, ungate: bool
) -> None:
    if ungate and "schedulingGates" not in change.get("spec", {}):
        change = {**change, "spec": {**change.get("spec", {}), **WITHOUT_GATE["spec"]}}
    patch = client.CoreV1Api(attacker).patch_namespaced_pod
    expect_refusal(lambda: patch("child", child, change), NO_CHANGE)


def test_foreign_pod_is_not_taken_over(
    api: client.ApiClient, attacker: client.ApiClient, places: dict[str, str]
) -> None:
    """An ownerReference would make the Pod deletable."""
    client.CoreV1Api(api).create_namespaced_pod(places["tenant"], pod("foreign"))
    patch = client.CoreV1Api(attacker).patch_namespaced_pod
    change = {"metadata": {"ownerReferences": [owner("foreign")]}}
    expect_refusal(lambda: patch("foreign", places["tenant"], change), NOT_OWNED)


def test_gate_is_removed(attacker: client.ApiClient, child: str) -> None:
    patch = client.CoreV1Api(attacker).patch_namespaced_pod
    changed = patch("child", child, WITHOUT_GATE)
    assert [gate.name for gate in changed.spec.scheduling_gates] == ["example.com/other"]


SUBRESOURCES: Final[dict[str, Callable[[client.CoreV1Api, str], Any]]] = {
    "exec": lambda core, at: core.connect_post_namespaced_pod_exec("child", at, command="sh"),
    "exec by GET": lambda core, at: core.connect_get_namespaced_pod_exec("child", at, command="sh"),
    "attach": lambda core, at: core.connect_post_namespaced_pod_attach("child", at),
    "portforward": lambda core, at: core.connect_post_namespaced_pod_portforward("child", at),
    "proxy": lambda core, at: core.connect_get_namespaced_pod_proxy("child", at),
    "ephemeral containers": lambda core, at: core.patch_namespaced_pod_ephemeralcontainers(
        "child", at, {"spec": {"ephemeralContainers": [{"name": "e", "image": "evil"}]}}
    ),
    "resize": lambda core, at: core.patch_namespaced_pod_resize(
        "child",
        at,
        {"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "2"}}}]}},
    ),
    "status": lambda core, at: core.patch_namespaced_pod_status(
        "child", at, {"status": {"message": "forged"}}
    ),
    "binding": lambda core, at: core.create_namespaced_pod_binding(
        "child",
        at,
        {"metadata": {"name": "child"}, "target": {"kind": "Node", "name": "n"}},
        _preload_content=False,
    ),
    "eviction": lambda core, at: core.create_namespaced_pod_eviction(
        "child", at, {"metadata": {"name": "child", "namespace": at}}
    ),
}


@pytest.mark.newest  # Kubernetes 1.30 has no subresource "resize".
@pytest.mark.parametrize("request_", SUBRESOURCES.values(), ids=SUBRESOURCES)
def test_subresource_of_a_pod_is_not_used(
    attacker: client.ApiClient, child: str, request_: Callable[[client.CoreV1Api, str], Any]
) -> None:
    core = client.CoreV1Api(attacker)
    expect_refusal(lambda: request_(core, child), "the operator uses no subresource of a Pod")


class TestPipelines:
    @pytest.fixture
    def pipelines(self, api: client.ApiClient, attacker: client.ApiClient) -> Pipelines:
        namespace = create_namespace(api)
        spec = {"template": minimal_template()}
        Pipelines(api, namespace).create(manifest("kept", spec))
        expiring = manifest("expiring", {**spec, "ttlSecondsAfterFinished": 0})
        Pipelines(api, namespace).create(expiring)
        return Pipelines(attacker, namespace)

    def test_pipeline_is_not_created(self, pipelines: Pipelines) -> None:
        body = manifest("new", {"template": minimal_template()})
        expect_refusal(lambda: pipelines.create(body), "the operator creates no InitPipelines")

    @pytest.mark.parametrize(
        "change",
        [
            {"spec": {"ttlSecondsAfterFinished": 0}},
            {"metadata": {"annotations": {names.RERUN_ANNOTATION: "a"}}},
            {"metadata": {"labels": {"a": "b"}}},
        ],
        ids=["spec", "request for a run", "label"],
    )
    def test_pipeline_is_not_changed(self, pipelines: Pipelines, change: Raw) -> None:
        expect_refusal(lambda: pipelines.patch("kept", change), "changes only their status")

    def test_pipeline_without_ttl_is_not_deleted(self, pipelines: Pipelines) -> None:
        expect_refusal(lambda: pipelines.delete("kept", "Background"), "ttlSecondsAfterFinished")

    def test_pipeline_with_ttl_is_deleted(self, pipelines: Pipelines) -> None:
        pipelines.delete("expiring", "Background")

    def test_status_is_written(self, pipelines: Pipelines) -> None:
        pipelines.patch_status("kept", {"initProgress": "0/1"})


def event(**regarding: str) -> Raw:
    """Returns an Event about this object."""
    return {
        "metadata": {"generateName": "forged-"},
        "eventTime": "2030-01-01T00:00:00.000000Z",
        "reportingController": "initpipeline.dev/operator",
        "reportingInstance": "a",
        "action": "Forge",
        "reason": "Forged",
        "type": "Normal",
        "regarding": regarding,
    }


class TestEvents:
    MESSAGE = "only Events about InitPipelines"

    @pytest.mark.parametrize(
        "regarding",
        [
            {"kind": "Pod", "apiVersion": "v1", "name": "a"},
            {"kind": names.KIND, "apiVersion": "initpipeline.dev.evil/v1", "name": "a"},
            {},
        ],
        ids=["Pod", "another group", "nothing"],
    )
    def test_event_about_another_object_is_neither_posted_nor_changed(
        self,
        api: client.ApiClient,
        attacker: client.ApiClient,
        places: dict[str, str],
        regarding: dict[str, str],
    ) -> None:
        namespace = places["tenant"] if regarding else "default"
        about = {**regarding, **({"namespace": namespace} if regarding else {})}
        forger = client.EventsV1Api(attacker)
        expect_refusal(
            lambda: forger.create_namespaced_event(namespace, event(**about)), self.MESSAGE
        )
        posted = client.EventsV1Api(api).create_namespaced_event(namespace, event(**about))
        name, change = posted.metadata.name, {"metadata": {"labels": {"a": "b"}}}
        expect_refusal(lambda: forger.patch_namespaced_event(name, namespace, change), self.MESSAGE)

    def test_event_of_the_core_group_is_not_posted(
        self, attacker: client.ApiClient, places: dict[str, str]
    ) -> None:
        """The API server converts the request, so that a rule of one group applies to both."""
        namespace = places["tenant"]
        body = {
            "metadata": {"generateName": "forged-"},
            "involvedObject": {"kind": "Pod", "name": "a", "namespace": namespace},
        }
        forger = client.CoreV1Api(attacker)
        expect_refusal(lambda: forger.create_namespaced_event(namespace, body), self.MESSAGE)

    def test_event_about_a_pipeline_is_posted(
        self, attacker: client.ApiClient, places: dict[str, str]
    ) -> None:
        about = {"kind": names.KIND, "apiVersion": names.API_VERSION, "name": "a"}
        body = event(**about, namespace=places["tenant"])
        client.EventsV1Api(attacker).create_namespaced_event(places["tenant"], body)


@pytest.fixture(scope="module")
def work(
    control_plane: Cluster,
    api: client.ApiClient,
    attacker: client.ApiClient,
    places: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[OperatorProcess, str]]:
    """Starts the operator with its own account and the policies. Its role applies only to a
    namespace with the longest name that is possible."""
    assert attacker
    assert places
    client.CoreV1Api(api).create_namespace({"metadata": {"name": LONG_NAME}})
    gate = {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}
    allow(api, LONG_NAME, OPERATOR, [*rules("ClusterRole"), gate, lease])
    arguments = ["--namespace", LONG_NAME, "--scheduling-gate", "--sweep-seconds", "99999"]
    log = tmp_path_factory.mktemp("operator") / "log"
    with OperatorProcess(control_plane.kubeconfig_for(OPERATOR), log, arguments) as process:
        yield process, LONG_NAME


@pytest.fixture
def env(work: tuple[OperatorProcess, str], api: client.ApiClient) -> Iterator[ContractEnv]:
    """Creates a pipeline in the namespace of the operator, whose Pod has no gate. At the end, no
    request of the operator may have been refused."""
    process, namespace = work
    env = ContractEnv(api, namespace)
    env.create()
    wait_for_pod_without_gate(env)
    yield env
    env.delete("Background")
    if env.pod() is not None:
        env.delete_pod()
    assert "forbidden" not in process.log.read_text()
    assert process.running


def wait_for_pod_without_gate(env: ContractEnv, not_uid: str = "") -> Raw:
    def found() -> Raw | None:
        pod = env.pod()
        if pod is None or pod["metadata"]["uid"] == not_uid or pod["spec"].get("schedulingGates"):
            return None
        return pod

    pod = poll_until(found, TIMEOUT_SECONDS, "a Pod without a gate", state=env.pod)
    assert pod is not None
    return pod


def uid(env: ContractEnv) -> str:
    pod = env.pod()
    assert pod is not None
    return str(pod["metadata"]["uid"])


class TestWorkOfTheOperator:
    def test_run_becomes_ready_and_is_repeated(self, env: ContractEnv) -> None:
        env.run_pod(running_pod())
        env.wait("Ready", is_ready)
        before = uid(env)
        env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "a"}}})
        poll_until(lambda: pod_is_ending(env, before), TIMEOUT_SECONDS, "the Pod is deleted")
        env.delete_pod()
        wait_for_pod_without_gate(env, before)

    def test_pod_without_the_label_is_deleted(self, env: ContractEnv) -> None:
        change = {"metadata": {"labels": {names.NAME_LABEL: None}}}
        client.CoreV1Api(env.api).patch_namespaced_pod(NAME, env.namespace, change)
        env.patch({"spec": {"suspend": True}})
        poll_until(lambda: env.pod() is None, TIMEOUT_SECONDS, "the Pod is gone", state=env.pod)

    def test_pod_of_a_deleted_pipeline_of_the_same_name_is_replaced(self, env: ContractEnv) -> None:
        before = uid(env)
        created = env.pod()
        assert created is not None
        env.delete("Background")
        # A pipeline counts as later if it was created in a later second.
        since = created["metadata"]["creationTimestamp"].replace("+00:00", "Z")
        poll_until(lambda: clock(env) > since, TIMEOUT_SECONDS, "a later second")
        env.create()
        wait_for_pod_without_gate(env, before)

    def test_finished_pipeline_is_deleted(self, env: ContractEnv) -> None:
        env.delete("Background")
        env.delete_pod()
        env.create(pipeline().policy(ttlSecondsAfterFinished=0, rerunPolicy="Never"))
        wait_for_pod_without_gate(env)
        env.bind()
        env.report_status({"phase": "Succeeded"})
        poll_until(lambda: env.pipeline() is None, TIMEOUT_SECONDS, "the pipeline is gone")
        env.delete_pod()
        env.create()
        wait_for_pod_without_gate(env)


def pod_is_ending(env: ContractEnv, uid: str) -> bool:
    pod = env.pod()
    assert pod is not None
    return pod["metadata"]["uid"] == uid and "deletionTimestamp" in pod["metadata"]


def clock(env: ContractEnv) -> str:
    """Returns the time of the API server."""
    event = {"metadata": {"generateName": "clock-"}, "involvedObject": {"namespace": env.namespace}}
    created = client.CoreV1Api(env.api).create_namespaced_event(
        env.namespace, event, dry_run="All", _preload_content=False
    )
    return str(json.loads(created.data)["metadata"]["creationTimestamp"])
