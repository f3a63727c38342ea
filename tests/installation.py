"""Install manifests/base without its Deployment: the tests run the operator as a process.

The process authenticates as the service account of manifests/base and has its permissions only.
"""

import copy
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests import libyaml
from tests.cluster.cluster import Cluster
from tests.kubectl import Kubectl, program, run
from tests.poll import poll_until

CRDS: Final = Path(__file__).parents[1] / "crds"
MANIFESTS: Final = Path(__file__).parents[1] / "manifests"
BASE: Final = MANIFESTS / "base"
SERVED_SECONDS: Final = 30.0
COMMAND_SECONDS: Final = 600.0
"""The timeout of kubectl, which also changes 150 large objects with one command."""
USER_ROLES: Final = ("initpipeline-view", "initpipeline-edit")
"""The ClusterRoles that are aggregated to those of Kubernetes."""
TOKEN_DURATION: Final = "4h"
"""Longer than any test session."""


@cache
def rendered() -> tuple[Raw, ...]:
    """Return the objects that `kubectl apply -k manifests/base` applies. The CRD is not one."""
    return tuple(libyaml.safe_load_all(run([str(program()), "kustomize", str(BASE)])))


def rules(kind: str) -> list[Raw]:
    """Return the rules of the operator's ClusterRole, or of its Role."""
    objects = libyaml.safe_load_all((BASE / "rbac.yaml").read_text())
    (role,) = (one for one in objects if one["kind"] == kind)
    return list(role["rules"])


def install_but_the_deployment(kubectl: Kubectl, *, namespaced: bool = False) -> None:
    """Apply the CRD and manifests/base without the Deployment.

    Return when the API server serves the CRD. With `namespaced`, the operator's account has no
    permissions yet: `allow_in` grants them in a namespace.
    """
    kubectl("apply", "--server-side", "-f", str(CRDS))
    left_out = {"Deployment", *(["ClusterRoleBinding"] if namespaced else [])}
    objects = [one for one in rendered() if one["kind"] not in left_out]
    kubectl("apply", "--server-side", "-f", "-", stdin=objects)
    _wait_until_served(kubectl)


def install_crd(cluster: Cluster) -> None:
    """Apply the CRD, and wait until the API server serves InitPipelines."""
    kubectl = admin_kubectl(cluster)
    kubectl("apply", "-f", str(CRDS))
    _wait_until_served(kubectl)


def admin_kubectl(cluster: Cluster) -> Kubectl:
    """Return kubectl in the version of the API server, with the rights of an administrator."""
    return Kubectl(cluster.kubeconfig, executable=cluster.kubectl, timeout=COMMAND_SECONDS)


def _wait_until_served(kubectl: Kubectl) -> None:
    """Wait until InitPipelines can be read and, a moment later, explained."""

    def is_served() -> bool:
        # `kubectl wait` fails if the CRD has no conditions yet.
        try:
            kubectl("get", names.PLURAL)
            kubectl("explain", names.PLURAL)
        except subprocess.CalledProcessError:
            return False
        return True

    poll_until(is_served, SERVED_SECONDS, "the API server serves InitPipelines")


def kubeconfig_of_the_operator(kubectl: Kubectl, file: Path) -> Path:
    """Write a kubeconfig of the Deployment's service account to `file`, and return `file`."""
    (deployment,) = (one for one in rendered() if one["kind"] == "Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    return kubeconfig_of(kubectl.within(deployment["metadata"]["namespace"]), account, file)


def kubeconfig_of(kubectl: Kubectl, account: str, file: Path) -> Path:
    """Write a kubeconfig of an account of kubectl's namespace to `file`, and return `file`."""
    token = kubectl("create", "token", account, f"--duration={TOKEN_DURATION}").strip()
    content = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    for user in content["users"]:
        user["user"] = {"token": token}
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    return file


def allow_in(kubectl: Kubectl, namespace: str) -> None:
    """Bind the operator's ClusterRole to its account in this namespace, as docs/install.md does for
    an operator of some namespaces."""
    (binding,) = (one for one in rendered() if one["kind"] == "ClusterRoleBinding")
    binding = copy.deepcopy(binding)
    binding["kind"] = "RoleBinding"
    binding["metadata"]["namespace"] = namespace
    kubectl("apply", "--server-side", "-f", "-", stdin=[binding])


def allow_leases(kubectl: Kubectl, namespace: str) -> None:
    """Permit the Deployment's service account all requests of the leader election in this
    namespace, for a Lease of any name. Each operator of the tests has one of its own."""
    objects = [one for one in rendered() if one["kind"] in ("Role", "RoleBinding")]
    for one in copy.deepcopy(objects):
        one["metadata"]["namespace"] = namespace
        for rule in one.get("rules", ()):
            rule.pop("resourceNames", None)
        kubectl("apply", "--server-side", "-f", "-", stdin=[one])
