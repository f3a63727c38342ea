"""Which Kubernetes the tests run on: one of their own, or, asked for by CLUSTER=current, the one
of the present kubeconfig context. A KUBECONFIG that happens to be set is never used otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from kubernetes import client, config, utils

from initpipeline.api import names
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.plan import Component
from tests.cluster.processes import wait_until

CRD = Path(__file__).parents[2] / "crds" / "initpipelines.yaml"
NODE_LOSS_NOTICED_SOON: Final = {
    Component.CONTROLLER_MANAGER: (
        "--node-monitor-period=1s",
        "--node-monitor-grace-period=10s",
        "--node-eviction-rate=10",
    )
}


@dataclass(frozen=True)
class Target:
    """A cluster to test on."""

    kubeconfig: Path
    own: Cluster | None
    """The cluster, if it is one that the tests started and whose node they can reach."""

    @property
    def node_access(self) -> Cluster:
        """The cluster whose node a test wants to do something to; skips the test without one."""
        if self.own is None:
            pytest.skip("needs access to the node, which CLUSTER=current does not give")
        return self.own


@contextmanager
def chosen() -> Iterator[Target]:
    """The cluster to test on, up for as long as the context lasts."""
    choice = os.environ.get("CLUSTER", "")
    if choice == "current":
        kubeconfig = Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
        _, context = config.list_kube_config_contexts(str(kubeconfig))
        print(f"\nCLUSTER=current: testing on the context {context['name']!r}")
        yield Target(kubeconfig, own=None)
    elif choice:
        pytest.exit(f"CLUSTER={choice!r} is not known: leave it out, or set it to 'current'", 2)
    else:
        # A name of its own: whatever else runs on this machine is none of the tests' business.
        with Cluster(f"e2e-{os.getpid()}", flags=NODE_LOSS_NOTICED_SOON) as cluster:
            yield Target(cluster.kubeconfig, own=cluster)


def with_crd(target: Target) -> Target:
    """The same, with the CRD installed."""
    with config.new_client_from_config(str(target.kubeconfig), persist_config=False) as api:
        _install_crd(api)
    return target


def _install_crd(api: client.ApiClient) -> None:
    def served() -> bool:
        custom = client.CustomObjectsApi(api)
        try:
            custom.list_cluster_custom_object(names.GROUP, names.VERSION, names.PLURAL)
        except client.ApiException:
            return False
        return True

    if not served():
        utils.create_from_yaml(api, str(CRD))
        wait_until(served, 30, lambda: ClusterError("the CRD is not served"))
