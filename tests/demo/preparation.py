"""Prepare the cluster: install the CRD, start the operator, and create the namespace."""

from pathlib import Path
from typing import Any, Final

import yaml

from initpipeline.api import names
from tests.demo.cluster import NAMESPACE, DemoCluster
from tests.demo.errors import DemoError
from tests.demo.supervisor import Supervisor
from tests.demo.view import View
from tests.installation import CRDS
from tests.poll import poll_until

LABEL: Final = "initpipeline.dev/demo"
"""Marks the demo's own namespace, which the demo may delete."""


def prepare(cluster: DemoCluster, supervisor: Supervisor, view: View) -> None:
    """Prepare the cluster. The deletion of an earlier demo's namespace runs meanwhile."""
    _delete_earlier_namespace(cluster, view)
    earlier = supervisor.stop_earlier()
    if earlier:
        view(f"stopped the operator of an earlier demo (pid {earlier})")
    _install_crd(cluster, view)
    supervisor.start()
    view(f"started the operator: initpipeline run, pid {supervisor.pid()}, log {supervisor.log}")
    _create_namespace(cluster, view)


def _delete_earlier_namespace(cluster: DemoCluster, view: View) -> None:
    earlier = cluster.get("namespace", NAMESPACE)
    if not earlier:
        return
    if LABEL not in earlier["metadata"].get("labels", {}):
        raise DemoError(
            f'the namespace "{NAMESPACE}" exists and does not belong to the demo, which would '
            "delete it: rename or delete it first"
        )
    view(f"deleting the namespace {NAMESPACE} of an earlier demo")
    # The pipelines first, since a terminating namespace waits 5 s before it deletes its content.
    if cluster.get("crd", f"{names.PLURAL}.{names.GROUP}"):
        cluster.kubectl("delete", names.PLURAL, "--all", "--wait=false")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _install_crd(cluster: DemoCluster, view: View) -> None:
    (crd,) = [_load(file) for file in CRDS.glob("*.yaml")]
    cluster.apply([crd])
    name = crd["metadata"]["name"]

    def established() -> bool:
        status = cluster.get("crd", name).get("status", {})
        conditions = status.get("conditions") or ()
        return any((c["type"], c["status"]) == ("Established", "True") for c in conditions)

    poll_until(established, cluster.timeout, f"CRD {name} is established", error=DemoError)
    view(f"installed the CRD {name}")


def _create_namespace(cluster: DemoCluster, view: View) -> None:
    cluster.kubectl(
        "wait", "--for=delete", f"namespace/{NAMESPACE}", f"--timeout={cluster.timeout:.0f}s"
    )
    metadata = {"name": NAMESPACE, "labels": {LABEL: "true"}}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
    # The API server rejects every Pod until the default ServiceAccount exists.
    poll_until(
        lambda: cluster.get("serviceaccount", "default"),
        cluster.timeout,
        "the namespace has a default ServiceAccount",
        error=DemoError,
    )
    view(f"created the namespace {NAMESPACE}")


def _load(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text()))
