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
from tests.cluster.plan import OWNER_REFERENCES_ENFORCED, Component
from tests.installation import install_but_the_deployment
from tests.kubectl import Kubectl

SCOPE_VARIABLE: Final = "INITPIPELINE_E2E_ROLE"
"""The environment variable that selects the permissions of the operators: "cluster", the default,
or "namespace": a RoleBinding in the namespace of each test, see `make e2e-namespaced`."""


def namespaced() -> bool:
    """Return whether each operator has permissions in the namespace of its test only."""
    scope = os.environ.get(SCOPE_VARIABLE, "cluster")
    if scope not in ("cluster", "namespace"):
        pytest.exit(f"invalid {SCOPE_VARIABLE}={scope!r}: set it to 'cluster' or 'namespace'", 2)
    return scope == "namespace"


FLAGS: Final = {
    Component.CONTROLLER_MANAGER: (
        "--node-monitor-period=1s",
        "--node-monitor-grace-period=10s",
        "--node-eviction-rate=10",
    ),
    Component.API_SERVER: (OWNER_REFERENCES_ENFORCED,),
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
        with Cluster(f"e2e-{os.getpid()}", flags=FLAGS) as cluster:
            yield Target(cluster.kubeconfig, own=cluster)


def installed(target: Target) -> Target:
    """Install manifests/base without its Deployment, since the tests run their own operator."""
    install_but_the_deployment(Kubectl(target.kubeconfig), namespaced=namespaced())
    return target
