"""Pipelines survive an upgrade to a later operator and CRD, and the way back.

A short form of tests/upgrade/test_upgrade.py, without a kubelet, controllers and an earlier commit.
"""

import os
from pathlib import Path
from typing import Final

import pytest
from kubernetes import client

from tests.api_client import connected
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Mode
from tests.cluster.progress import silent
from tests.kubectl import Kubectl
from tests.upgrade import versions
from tests.upgrade.states import STATES
from tests.upgrade.upgraded import UpgradedNamespace

NAMESPACE: Final = "upgrade"
SHORT: Final = frozenset(
    {
        "step-3",
        "failed-step",
        "done",
        "given-up",
        "suspended",
        "terminating",
        "requested",
        "conflict",
        "policy",
        "lost-during",
    }
)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(SHORT, id="small"),
        # The admission policies of the installation of make upgrade permit no such pipeline.
        pytest.param(frozenset({"oversized"}), id="oversized", marks=pytest.mark.long),
    ],
)
def test_pipelines_survive_a_later_operator_and_crd_and_the_way_back(
    names: frozenset[str], tmp_path: Path
) -> None:
    present = versions.present()
    # The CRD changes, so the API server is not that of the other tests.
    cluster = Cluster(f"upgrade-{os.getpid()}", Mode.CONTROL_PLANE)
    with cluster, connected(cluster.kubeconfig) as api:
        later = versions.later(tmp_path / "later", cluster)
        client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
        upgraded = UpgradedNamespace(
            api,
            Kubectl(cluster.kubeconfig, NAMESPACE, executable=cluster.kubectl),
            NAMESPACE,
            cluster.audit_log,
            cluster.kubeconfig_for("operator", ["system:masters"]),
            "operator",
            tmp_path,
            ("--namespace", NAMESPACE, "--log-format", "json"),
            NAMESPACE,
            silent,
        )
        with upgraded:
            upgraded.apply(present)
            upgraded.start_first(present)
            upgraded.create([one for one in STATES if one.name in names], 1)
            found = upgraded.switch(later, crd_first=later)
            found += upgraded.switch(present, how="stop", crd_last=present)
    assert not found, "\n".join(found)
