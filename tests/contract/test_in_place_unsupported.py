"""rerunStrategy InPlace with API servers that do not support it.

Kubernetes 1.35 and 1.36 have the field restartPolicyRules, but may refuse the action of the rules.
1.34 drops the field. Earlier versions refuse it as unknown.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from kubernetes import client

from initpipeline.api.reasons import ConditionType
from tests.api_client import connected
from tests.builders import pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component, Mode
from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.installation import install_crd
from tests.statuses import condition, is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]
pytestmark = [pytest.mark.cluster, pytest.mark.newest]

OFF = "--feature-gates=RestartAllContainersOnContainerExits=false"
DROPS = "--feature-gates=ContainerRestartRules=false,RestartAllContainersOnContainerExits=false"

IN_PLACE = ConditionType.IN_PLACE_UNAVAILABLE


@pytest.fixture(
    scope="module",
    params=[pytest.param(OFF, id="refuses"), pytest.param(DROPS, id="drops")],
)
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Starts an API server without the feature, instead of that of the other tests."""
    flags = {Component.API_SERVER: [request.param]}
    with Cluster(f"contract-old-{os.getpid()}", Mode.CONTROL_PLANE, flags=flags) as cluster:
        install_crd(cluster)
        yield cluster


@pytest.fixture(scope="module")
def api(control_plane: Cluster) -> Iterator[client.ApiClient]:
    with connected(control_plane.kubeconfig) as api:
        yield api


@pytest.mark.usefixtures("operator")
def test_pod_is_created_without_rules_and_the_condition_gives_the_reason(
    env: ContractEnv, request_counter: RequestCounter
) -> None:
    env.create(pipeline().policy(rerunStrategy="InPlace"))
    env.run_pod(running_pod())

    status = env.wait("Ready", lambda status: is_ready(status) and status)

    assert runs_in(status) == [(1, "Created", "")]
    in_place = condition(status, IN_PLACE)
    assert (in_place["status"], in_place["reason"]) == ("True", "InPlaceUnsupported")
    assert "restartPolicyRules" in in_place["message"]
    pod = env.pod()
    assert pod is not None
    assert "restartPolicyRules" not in pod["spec"]["containers"][0]
    counts = request_counter.counts_at_rest()
    assert (counts["create pods 201"], counts["create pods 422"]) in [(1, 0), (1, 1)]
    request_counter.reset()
    assert request_counter.counts_at_rest(quiet=3) == Counter()
