"""A CRD that is older or newer than the operator, a status of a newer operator, and a second
version of the API, on an API server of their own."""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError
from typing import Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests import libyaml
from tests.api_client import allow, connected, manifest
from tests.builders import NAME, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Mode
from tests.contract.contract_env import ContractEnv
from tests.contract.test_operator_permissions import RULES
from tests.installation import CRDS, install_crd
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]
pytestmark = pytest.mark.cluster

CRD: Final[Raw] = libyaml.safe_load((CRDS / "initpipelines.yaml").read_text())
CRD_NAME: Final = f"{names.PLURAL}.{names.GROUP}"
SECONDS: Final = 30.0
NEW: Final[Raw] = {"aFieldOfTheFuture": {"deep": [1, {"er": True}]}}
AUDITED: Final[Raw] = {
    "type": "example.com/Audited",
    "status": "True",
    "reason": "Audited",
    "message": "by another controller",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def control_plane() -> Iterator[Cluster]:
    """Starts an API server whose CRD the tests change."""
    with Cluster(f"contract-skew-{os.getpid()}", Mode.CONTROL_PLANE) as cluster:
        install_crd(cluster)
        yield cluster


@pytest.fixture(scope="module")
def api(control_plane: Cluster) -> Iterator[client.ApiClient]:
    with connected(control_plane.kubeconfig) as api:
        yield api


class Crd:
    """The CRD on the API server."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.applied = CRD

    def apply(self, crd: Raw) -> None:
        """Replace the CRD. Return when the API server publishes the schema of v1alpha1, which must
        differ from the one before."""
        before = self._address()
        self._kubectl("replace", "-f", "-", stdin=crd)
        self.applied = crd
        poll_until(lambda: self._address() != before, SECONDS, "the new schema is published")

    def _address(self) -> str:
        index = json.loads(self._kubectl("get", "--raw", "/openapi/v3"))
        address: str = index["paths"][f"apis/{names.API_VERSION}"]["serverRelativeURL"]
        return address


@pytest.fixture(scope="module")
def cluster_kubectl(control_plane: Cluster) -> Kubectl:
    return Kubectl(control_plane.kubeconfig, executable=control_plane.kubectl)


@pytest.fixture
def crd(cluster_kubectl: Kubectl) -> Iterator[Crd]:
    """Returns the CRD. After the test it is that of the repository again."""
    crd = Crd(cluster_kubectl)
    yield crd
    if crd.applied != CRD:
        crd.apply(CRD)


@pytest.fixture
def limited(
    control_plane: Cluster, api: client.ApiClient, user: str, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """Returns an operator that was not started, and has permissions in the test's namespace only.
    It compares the CRD each second."""
    allow(api, namespace, user, RULES)
    kubeconfig = control_plane.kubeconfig_for(user)
    arguments = ["--namespace", namespace, "--sweep-seconds", "1"]
    process = OperatorProcess(kubeconfig, tmp_path / "operator.log", arguments)
    yield process
    if process.running:
        process.stop()


def fields_of(crd: Raw) -> tuple[Raw, Raw]:
    """Returns the schemas of spec and status, which the caller may change."""
    fields = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return fields["spec"], fields["status"]


def logged(operator: OperatorProcess, message: str) -> str:
    """Waits for a line of the log. Returns its field "fields", or ""."""

    def lines() -> list[Raw]:
        return [line for line in operator.lines() if line["message"] == message]

    return str(poll_until(lines, SECONDS, message, state=operator.tail)[-1].get("fields", ""))


def make_ready(env: ContractEnv) -> Raw:
    """Create the pipeline, and let its first run initialize. Returns the status."""
    env.create()
    env.run_pod(running_pod())
    status: Raw = env.wait("Ready", lambda status: is_ready(status) and status)
    return status


def start_run(env: ContractEnv, number: int) -> Raw:
    """Request the run of this number. Returns the status when it has begun."""
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: f"for-{number}"}}})
    status: Raw = env.wait(
        f"run {number}", lambda status: status["run"]["number"] == number and status
    )
    return status


def mark(env: ContractEnv, status: Raw) -> None:
    """Write what a newer operator and another controller would add to this status."""
    added = {"run": NEW, "conditions": [*status["conditions"], AUDITED], **NEW}
    env.pipelines.patch_status(NAME, added)
    assert env.status()["run"]["aFieldOfTheFuture"] == NEW["aFieldOfTheFuture"]


def test_older_crd_is_reported_to_administrators_and_users(
    crd: Crd, limited: OperatorProcess, env: ContractEnv, api: client.ApiClient
) -> None:
    older = copy.deepcopy(CRD)
    spec, status = fields_of(older)
    del spec["properties"]["suspend"], status["properties"]["nodeName"]
    del status["x-kubernetes-preserve-unknown-fields"]
    spec["properties"]["rerunPolicy"]["enum"].remove("Never")
    env.create(pipeline().policy(rerunPolicy="Never"))
    crd.apply(older)
    limited.start()
    fields = logged(limited, "CRD is older than the operator")
    assert fields == "spec.rerunPolicy=Never, spec.suspend, status.nodeName"

    env.run_pod(running_pod())
    stored = env.wait("Ready", lambda status: is_ready(status) and status)

    assert "nodeName" not in stored
    assert stored["podName"] == NAME

    def notes() -> list[str]:
        events = client.EventsV1Api(api).list_namespaced_event(env.namespace).items
        return [one.note for one in events if one.reason == "StatusFieldsDropped"]

    [note] = poll_until(notes, SECONDS, "the event", state=limited.tail)
    assert note.endswith("Apply the CRD of the operator's version. Dropped: status.nodeName")

    crd.apply(CRD)
    logged(limited, "CRD matches the operator")
    env.report(running_pod().ready(False))
    env.wait("the node", lambda status: status.get("nodeName") == "node-1")


def test_newer_crd_is_reported_and_starts_no_run(
    crd: Crd, limited: OperatorProcess, env: ContractEnv
) -> None:
    """The newer CRD also has the schema of a newer Kubernetes' Pod, with further fields and
    defaults."""
    limited.start()
    before = make_ready(env)
    newer = copy.deepcopy(CRD)
    spec, status = fields_of(newer)
    spec["properties"]["newPolicy"] = {"type": "string", "default": "Always"}
    status["properties"]["newTime"] = {"type": "string"}
    pod = spec["properties"]["template"]["properties"]["spec"]
    pod["properties"]["newField"] = {"type": "string", "default": "on"}
    crd.apply(newer)
    assert logged(limited, "CRD is newer than the operator") == "spec.newPolicy, status.newTime"
    limited.stop()
    limited.start()

    raw = env.pipeline()
    assert raw is not None
    assert raw["spec"]["template"]["spec"]["newField"] == "on"
    env.report(running_pod().ready(False))
    after = env.wait("not Ready", lambda status: not is_ready(status) and status)
    assert runs_in(after) == [(1, "Created", "")]
    assert after["templateHash"] == before["templateHash"]


def test_what_a_newer_operator_wrote_stays_with_its_run(
    limited: OperatorProcess, env: ContractEnv
) -> None:
    limited.start()
    mark(env, make_ready(env))

    start_run(env, 2)
    status = start_run(env, 3)

    assert [run["number"] for run in status["history"]] == [2, 1]
    assert status["history"][1]["aFieldOfTheFuture"] == NEW["aFieldOfTheFuture"]
    assert "aFieldOfTheFuture" not in {*status["run"], *status["history"][0]}
    assert status["aFieldOfTheFuture"] == NEW["aFieldOfTheFuture"]
    assert AUDITED in status["conditions"]


BETA: Final = "v1beta1"
BETA_RESOURCE: Final = f"{names.PLURAL}.{BETA}.{names.GROUP}"


def with_versions(*versions: str) -> Raw:
    """Returns the CRD with these versions of one schema. The first is the storage version."""
    crd = copy.deepcopy(CRD)
    [only] = crd["spec"]["versions"]
    crd["spec"]["versions"] = [
        {**only, "name": name, "storage": name == versions[0]} for name in versions
    ]
    return crd


def migrate(kubectl: Kubectl, version: str) -> None:
    """Store all InitPipelines in the storage version, and record that no other is stored."""
    objects = kubectl.json("get", names.PLURAL, "--all-namespaces")
    kubectl("replace", "-f", "-", stdin=objects)
    patch = json.dumps({"status": {"storedVersions": [version]}})
    kubectl("patch", "crd", CRD_NAME, "--subresource=status", "--type=merge", "-p", patch)


def test_second_version_of_the_same_schema_loses_nothing(
    cluster_kubectl: Kubectl, limited: OperatorProcess, env: ContractEnv
) -> None:
    """v1beta1 becomes the storage version. The operator, which uses v1alpha1, runs all the time."""
    kubectl = cluster_kubectl.within(env.namespace)
    limited.start()
    mark(env, make_ready(env))
    alpha = env.pipeline()
    assert alpha is not None

    kubectl("replace", "-f", "-", stdin=with_versions(BETA, names.VERSION))
    poll_until(lambda: served(kubectl, BETA), SECONDS, "v1beta1 is served")
    beta = kubectl.json("get", BETA_RESOURCE, NAME)
    assert without_version(beta) == without_version(alpha)
    assert beta["apiVersion"] == f"{names.GROUP}/{BETA}"
    migrate(cluster_kubectl, BETA)
    migrated = env.pipeline()
    assert migrated is not None
    assert migrated["metadata"]["resourceVersion"] != alpha["metadata"]["resourceVersion"]
    assert migrated["metadata"]["generation"] == alpha["metadata"]["generation"]
    assert migrated["status"] == alpha["status"]

    # Users write v1beta1, the operator v1alpha1.
    kubectl("annotate", BETA_RESOURCE, NAME, f"{names.RERUN_ANNOTATION}=beta")
    env.wait("run 2", lambda status: status["run"]["number"] == 2)
    other = manifest("other", pipeline().raw()["spec"])
    kubectl("create", "-f", "-", stdin={**other, "apiVersion": f"{names.GROUP}/{BETA}"})
    poll_until(
        lambda: "other" in kubectl("get", "pods", "-o", "name"), SECONDS, "the Pod of the other"
    )
    before = kubectl.json("get", BETA_RESOURCE, NAME)
    [ended] = before["status"]["history"]
    assert ended["aFieldOfTheFuture"] == NEW["aFieldOfTheFuture"]
    assert AUDITED in before["status"]["conditions"]


def served(kubectl: Kubectl, version: str) -> bool:
    """Returns whether the API server serves InitPipelines in this version."""
    try:
        kubectl("get", f"{names.PLURAL}.{version}.{names.GROUP}")
    except CalledProcessError:
        return False
    return True


def without_version(raw: Raw) -> Raw:
    """Returns the object without what differs between versions: managedFields name the version."""
    metadata = {key: one for key, one in raw["metadata"].items() if key != "managedFields"}
    return {**raw, "apiVersion": "", "metadata": metadata}
