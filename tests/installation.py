"""manifests/base for an operator that is a process of the tests: all of it but the Deployment.

The process has the service account's token, and so what manifests/base permits, and nothing else.
"""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from initpipeline.api import names
from tests.cluster.errors import ClusterError
from tests.cluster.processes import wait_until
from tests.kubectl import Kubectl, program, run

MANIFESTS: Final = Path(__file__).parents[1] / "manifests"
BASE: Final = MANIFESTS / "base"
SERVED_SECONDS: Final = 30.0
TOKEN_DURATION: Final = "4h"
"""Longer than any session of tests."""

Object = dict[str, Any]


@cache
def rendered() -> tuple[Object, ...]:
    """What `kubectl apply -k manifests/base` applies."""
    return tuple(yaml.safe_load_all(run([str(program()), "kustomize", str(BASE)])))


def install_but_the_deployment(kubectl: Kubectl) -> None:
    """What an operator needs, and none that runs."""
    objects = [one for one in rendered() if one["kind"] != "Deployment"]
    kubectl("apply", "--server-side", "-f", "-", stdin=objects)
    wait_until(lambda: _served(kubectl), SERVED_SECONDS, lambda: ClusterError("CRD not served"))


def _served(kubectl: Kubectl) -> bool:
    """Whether InitPipelines can be read. (`kubectl wait` fails on a CRD without conditions yet.)"""
    try:
        kubectl("get", names.PLURAL)
    except subprocess.CalledProcessError:
        return False
    return True


def kubeconfig_of_the_operator(kubectl: Kubectl, file: Path) -> Path:
    """Written to that file: the same cluster, as the service account that the Deployment names."""
    (deployment,) = (one for one in rendered() if one["kind"] == "Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    installed = kubectl.within(deployment["metadata"]["namespace"])
    token = installed("create", "token", account, f"--duration={TOKEN_DURATION}").strip()
    content = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    for user in content["users"]:
        user["user"] = {"token": token}
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    return file
