"""manifests/base is installed with the real image, as a Deployment, on a real kubelet."""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from initpipeline.api import names
from tests import installation
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.cluster.progress import Lines
from tests.e2e import examples
from tests.image.build import built
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

TIMEOUT: Final = "--timeout=60s"
NAMESPACE: Final = "initpipeline-system"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a cluster that has the operator's image, but nothing installed."""
    image = built(Lines())
    with Cluster(f"installation-{os.getpid()}") as cluster:
        cluster.import_image(image)
        yield cluster


def test_installation_serves_pipelines_which_its_removal_keeps(cluster: Cluster) -> None:
    kubectl = Kubectl(cluster.kubeconfig)
    kubectl("apply", "--server-side", "-f", str(installation.CRDS))
    kubectl("apply", "-k", str(installation.BASE))
    _restart_the_garbage_collector(cluster)
    system = kubectl.within(NAMESPACE)
    system("rollout", "status", "deployment/initpipeline", TIMEOUT)
    kubectl("apply", "-f", str(examples.FOLDER / "volume-permissions.yaml"))
    kubectl("wait", "ipl/notes", "--for=condition=Ready", TIMEOUT)
    replicas = system.json("get", "pods")["items"]
    assert len(replicas) == 2
    for pod in replicas:
        (container,) = pod["status"]["containerStatuses"]
        assert container["restartCount"] == 0
        assert container["ready"], "its probe was answered"

    system("rollout", "restart", "deployment/initpipeline")
    system("rollout", "status", "deployment/initpipeline", TIMEOUT)
    holder = system.json("get", "lease", "initpipeline")["spec"]["holderIdentity"]
    assert holder not in [pod["metadata"]["name"] for pod in replicas]
    kubectl("annotate", "ipl/notes", f"{names.RERUN_ANNOTATION}=again")
    kubectl("wait", "ipl/notes", "--for=jsonpath={.status.run.number}=2", TIMEOUT)
    kubectl("wait", "ipl/notes", "--for=condition=Ready", TIMEOUT)

    labels = kubectl.json("get", "namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    before = _uids(kubectl)
    kubectl("delete", "-k", str(installation.BASE), TIMEOUT)
    assert _uids(kubectl) == before

    kubectl("delete", "-f", str(installation.CRDS), TIMEOUT)
    kubectl("wait", "pod/notes", "--for=delete", TIMEOUT)
    for kind in {one["kind"] for one in installation.rendered()}:
        assert "initpipeline" not in kubectl("get", kind, "-A", "-o", "name"), "left behind"


def _uids(kubectl: Kubectl) -> list[str]:
    """Return the UIDs of the InitPipeline and its Pod, which must not be in deletion."""
    objects = [kubectl.json("get", kind, "notes") for kind in ("ipl", "pod")]
    assert not any("deletionTimestamp" in one["metadata"] for one in objects)
    return [one["metadata"]["uid"] for one in objects]


def _restart_the_garbage_collector(cluster: Cluster) -> None:
    """Make the garbage collector discover the new kind at once.

    By itself it does so within half a minute. If the CRD is deleted earlier, it leaves the Pods.
    """
    cluster.stop(Component.CONTROLLER_MANAGER)
    cluster.start(Component.CONTROLLER_MANAGER)
