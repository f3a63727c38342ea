"""The Helm chart is installed, upgraded, rolled back and uninstalled, on a real kubelet."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from initpipeline.api import names
from tests import installation
from tests.cluster.build import built as program
from tests.cluster.cluster import Cluster
from tests.cluster.helm import HELM
from tests.cluster.progress import Lines
from tests.e2e import examples
from tests.image.build import built
from tests.kubectl import Kubectl, run
from tests.poll import poll_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

TIMEOUT: Final = "--timeout=120s"
SECONDS: Final = 120.0
NAMESPACE: Final = "initpipeline-system"
CRD: Final = "crd/initpipelines.initpipeline.dev"
RELEASE: Final = "initpipeline"
CHART: Final = str(installation.MANIFESTS / "chart")
PIPELINE: Final = examples.FOLDER / "volume-permissions.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a cluster that has the operator's image, but nothing installed."""
    image = built(Lines())
    with Cluster(f"chart-{os.getpid()}") as cluster:
        cluster.import_image(image)
        yield cluster


class Helm:
    """Runs Helm on a cluster, with the arguments that a user types."""

    def __init__(self, cluster: Cluster) -> None:
        self._kubeconfig = str(cluster.kubeconfig)
        self._program = str(program(HELM, Lines()) / "helm")

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Run Helm and return its output. Raises CalledProcessError if it fails."""
        command = [self._program, "--kubeconfig", self._kubeconfig, "--namespace", NAMESPACE]
        options = [] if values is None else ["--values", "-"]
        return run([*command, *arguments, *options], json.dumps(values or {}), timeout=300)


def test_release_keeps_pipelines_and_pods_through_its_whole_life(
    cluster: Cluster, tmp_path: Path
) -> None:
    helm, kubectl = Helm(cluster), Kubectl(cluster.kubeconfig)
    system = kubectl.within(NAMESPACE)
    kubectl("create", "namespace", "team-a")
    earlier = _with_another_crd(tmp_path)
    options = ("--wait", "--create-namespace")

    helm("install", RELEASE, str(earlier), *options, values={"replicas": 3})
    assert len(_running(system)) == 3
    for namespace in ("default", "team-a"):
        kubectl.within(namespace)("apply", "-f", str(PIPELINE))
        kubectl.within(namespace)("wait", "ipl/notes", "--for=condition=Ready", TIMEOUT)
    before = _identities(kubectl)

    assert "READY" not in kubectl("get", "ipl")
    limited = {
        "namespaces": ["team-a"],
        "podLabels": {"release": "second"},
        "networkPolicy": {"enabled": True},
    }
    helm("upgrade", RELEASE, CHART, *options, values=limited)
    poll_until(lambda: "READY" in kubectl("get", "ipl"), SECONDS, "the CRD is upgraded")
    assert len(_running(system)) == 2
    assert _identities(kubectl) == before

    # In namespaced mode only the pipeline of the namespace is served.
    assert "clusterrole.rbac.authorization.k8s.io/initpipeline\n" not in kubectl(
        "get", "clusterrole", "-o", "name"
    )
    for namespace in ("default", "team-a"):
        kubectl.within(namespace)("annotate", "ipl/notes", f"{names.RERUN_ANNOTATION}=second")
    kubectl.within("team-a")("wait", "ipl/notes", "--for=jsonpath={.status.run.number}=2", TIMEOUT)
    assert kubectl.json("get", "ipl", "notes", "-n", "default")["status"]["run"]["number"] == 1

    # A rollback restores the CRD as well.
    helm("rollback", RELEASE, "1", "--wait")
    poll_until(lambda: "READY" not in kubectl("get", "ipl"), SECONDS, "the CRD is rolled back")
    assert len(_running(system)) == 3
    kubectl.within("default")("wait", "ipl/notes", "--for=jsonpath={.status.run.number}=2", TIMEOUT)
    for namespace in ("default", "team-a"):
        kubectl.within(namespace)("wait", "ipl/notes", "--for=condition=Ready", TIMEOUT)

    before = _identities(kubectl)
    output = helm("uninstall", RELEASE, "--wait")
    assert "resource-policy" in output or "CustomResourceDefinition" in output
    kubectl("get", CRD)
    assert system("get", "deployment", "-o", "name") == ""
    assert _identities(kubectl) == before

    # The new release takes over the CRD that the old one has left, and continues.
    helm("install", RELEASE, CHART, *options, values={})
    assert _identities(kubectl) == before
    default = kubectl.within("default")
    default("annotate", "--overwrite", "ipl/notes", f"{names.RERUN_ANNOTATION}=third")
    default("wait", "ipl/notes", "--for=jsonpath={.status.run.number}=3", TIMEOUT)


def _with_another_crd(folder: Path) -> Path:
    """Write a chart whose CRD lacks the column READY, and return its directory."""
    chart = Path(shutil.copytree(CHART, folder / "chart"))
    file = chart / "crd.yaml"
    crd = yaml.safe_load(file.read_text())
    (version,) = crd["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    version["additionalPrinterColumns"] = [one for one in columns if one["name"] != "Ready"]
    file.write_text(yaml.safe_dump(crd))
    return chart


def _running(system: Kubectl) -> list[Any]:
    """Return the operator's Pods that are not in deletion, which must be ready."""
    pods = [
        pod
        for pod in system.json("get", "pods")["items"]
        if "deletionTimestamp" not in pod["metadata"]
    ]
    assert all(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)
    return pods


def _identities(kubectl: Kubectl) -> dict[str, str]:
    """Return the UIDs of all InitPipelines and their Pods. None of them is in deletion."""
    objects = kubectl.json("get", "ipl", "-A")["items"]
    objects += kubectl.json("get", "pods", "-A", "-l", names.NAME_LABEL)["items"]
    assert not any("deletionTimestamp" in one["metadata"] for one in objects)
    return {
        f"{one['kind']} {one['metadata']['namespace']}": one["metadata"]["uid"] for one in objects
    }
