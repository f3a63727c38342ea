"""An installation with 200 pipelines is upgraded and downgraded: ``make upgrade``.

The operators run as processes with the permissions of the installation. The Pods of a handful of
pipelines are on the real node. Those of the others are on a node whose kubelet the test plays, so
that they can stay in any state. The API server, its controllers and the garbage collector are real.
"""

import os
from pathlib import Path
from typing import Final

import pytest
from kubernetes import client

from tests.api_client import connected
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.cluster.progress import Lines
from tests.installation import install_but_the_deployment, kubeconfig_of_the_operator
from tests.kubectl import Kubectl
from tests.upgrade import kubelet, versions
from tests.upgrade.states import REAL, STATES
from tests.upgrade.upgraded import UpgradedNamespace

pytestmark = [pytest.mark.cluster, pytest.mark.long]

FROM: Final = os.environ.get("INITPIPELINE_UPGRADE_FROM") or versions.DEFAULT_FROM
EACH: Final = 8
"""Pipelines of each state, so 200 in all."""
NAMESPACE: Final = "upgrade"
SYSTEM: Final = "initpipeline-system"
ACCOUNT: Final = f"system:serviceaccount:{SYSTEM}:initpipeline"
FLAGS: Final = {Component.CONTROLLER_MANAGER: ("--node-monitor-grace-period=24h",)}
"""The fake node sends no heartbeats."""


def test_pipelines_in_every_state_survive_upgrade_and_downgrade(tmp_path: Path) -> None:
    progress = Lines()
    present = versions.present()
    try:
        earlier = versions.earlier(FROM, tmp_path / "earlier")
    except versions.VersionError as error:
        pytest.fail(str(error), pytrace=False)
    cluster = Cluster(f"upgrade-{os.getpid()}", flags=FLAGS, progress=progress)
    with cluster, connected(cluster.kubeconfig) as api:
        later = versions.later(tmp_path / "later", cluster)
        kubectl = Kubectl(cluster.kubeconfig, NAMESPACE)
        install_but_the_deployment(Kubectl(cluster.kubeconfig))
        client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
        _create_node(api)
        upgraded = UpgradedNamespace(
            api,
            kubectl,
            NAMESPACE,
            cluster.audit_log,
            kubeconfig_of_the_operator(Kubectl(cluster.kubeconfig), tmp_path / "kubeconfig"),
            ACCOUNT,
            tmp_path,
            ("--log-format", "json"),
            SYSTEM,
            progress,
            whole=True,
        )
        with upgraded:
            upgraded.apply(earlier)
            upgraded.start_first(earlier)
            # The admission policies of the installation permit no oversized pipeline.
            upgraded.create([one for one in STATES if one.name != "oversized"], EACH)
            upgraded.create(REAL, 1)
            found = upgraded.switch(present, crd_first=present)
            found += upgraded.switch(earlier, how="kill", crd_last=earlier)
            found += upgraded.switch(present, how="stop", crd_first=present)
            found += upgraded.switch(later, crd_first=later)
            found += upgraded.switch(present, how="stop", crd_last=present)
            found += upgraded.switch(later, how="kill", crd_first=later)
            found += upgraded.switch(present)
            for what, count in sorted(upgraded.figures.items()):
                progress(f"{count:6} {what}")
    assert not found, "\n".join(found)


def _create_node(api: client.ApiClient) -> None:
    """Create the node of the Pods that the test reports on. The scheduler does not use it."""
    core, ready = client.CoreV1Api(api), {"type": "Ready", "status": "True"}
    core.create_node({"metadata": {"name": kubelet.NODE}, "spec": {"unschedulable": True}})
    core.patch_node_status(kubelet.NODE, {"status": {"conditions": [ready]}})
