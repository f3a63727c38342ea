"""Which Kubernetes the tests run on: one of their own, or, asked for by CLUSTER=current, the one
of the present kubeconfig context. A KUBECONFIG that happens to be set is never used otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from kubernetes import config

from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.installation import install_but_the_deployment
from tests.kubectl import Kubectl

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


def installed(target: Target) -> Target:
    """The same, with manifests/base installed, but for the operator: the tests run their own."""
    install_but_the_deployment(Kubectl(target.kubeconfig))
    return target
