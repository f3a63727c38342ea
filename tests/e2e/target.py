"""Choose the cluster for the tests: a new one, or the current kubeconfig context's.

CLUSTER=current selects the latter. Without it, the environment's KUBECONFIG is ignored.
"""

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

FAST_NODE_LOSS_DETECTION: Final = {
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
    """The cluster, if the tests have started it. Its node can be accessed."""

    @property
    def node_access(self) -> Cluster:
        """The cluster, for access to its node. Skips the test if there is no access."""
        if self.own is None:
            pytest.skip("needs access to the node, which CLUSTER=current does not give")
        return self.own


@contextmanager
def chosen() -> Iterator[Target]:
    """Provide the cluster to test on for the duration of the context."""
    choice = os.environ.get("CLUSTER", "")
    if choice == "current":
        kubeconfig = Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
        _, context = config.list_kube_config_contexts(str(kubeconfig))
        print(f"\nCLUSTER=current: testing on the context {context['name']!r}")
        yield Target(kubeconfig, own=None)
    elif choice:
        pytest.exit(f"invalid CLUSTER={choice!r}: unset it, or set it to 'current'", 2)
    else:
        # A unique name, so that concurrent test runs do not share a cluster.
        with Cluster(f"e2e-{os.getpid()}", flags=FAST_NODE_LOSS_DETECTION) as cluster:
            yield Target(cluster.kubeconfig, own=cluster)


def installed(target: Target) -> Target:
    """Install manifests/base without its Deployment, since the tests run their own operator."""
    install_but_the_deployment(Kubectl(target.kubeconfig))
    return target
