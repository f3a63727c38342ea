"""rerunStrategy InPlace with API servers that cannot have it, as those of earlier versions.

From 1.35 to 1.36 they know the field restartPolicyRules, but may not know what our rules ask for,
and refuse the Pod. One of 1.34 knows the field as one to drop. Before, it is unknown, and refused.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from initpipeline.api.reasons import ConditionType
from tests.builders import pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component, Mode
from tests.contract.conftest import install_crd
from tests.contract.operator_world import Ledger, World, condition, ready, runs

pytest_plugins = ["tests.contract.operator_fixtures"]
pytestmark = [pytest.mark.cluster, pytest.mark.newest]

OFF = "--feature-gates=RestartAllContainersOnContainerExits=false"
DROPS = "--feature-gates=ContainerRestartRules=false,RestartAllContainersOnContainerExits=false"

IN_PLACE = ConditionType.RERUN_IN_PLACE


@pytest.fixture(
    scope="module",
    params=[pytest.param(OFF, id="refuses"), pytest.param(DROPS, id="drops")],
)
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Takes the place of the API server of all other tests."""
    flags = {Component.API_SERVER: [request.param]}
    with Cluster(f"contract-old-{os.getpid()}", Mode.CONTROL_PLANE, flags=flags) as cluster:
        install_crd(cluster)
        yield cluster


@pytest.fixture(scope="module")
def api(control_plane: Cluster) -> Iterator[client.ApiClient]:
    kubeconfig = str(control_plane.kubeconfig)
    with config.new_client_from_config(kubeconfig, persist_config=False) as api:
        yield api


@pytest.mark.usefixtures("operator")
def test_the_pod_goes_without_and_the_condition_says_so(world: World, ledger: Ledger) -> None:
    world.create(pipeline().policy(rerunStrategy="InPlace"))
    world.live(running_pod())

    status = world.wait("Ready", lambda status: ready(status) and status)

    assert runs(status) == [(1, "Created", "")]
    said = condition(status, IN_PLACE)
    assert (said["status"], said["reason"]) == ("False", "InPlaceUnsupported")
    assert "restartPolicyRules" in said["message"], "it names what was refused or dropped"
    pod = world.pod()
    assert pod is not None
    assert "restartPolicyRules" not in pod["spec"]["containers"][0]
    asked = ledger.at_rest()
    assert (asked["create pods 201"], asked["create pods 422"]) in [(1, 0), (1, 1)]
    ledger.forget()
    assert ledger.at_rest(quiet=3) == Counter()
