"""The exact number of requests that the operator sends to a real API server.

The numbers are those of tests/costs/table.md, which tests/unit/runtime/test_costs.py checks in
memory. If a change raises one, its commit must give the reason.
"""

from collections import Counter

import pytest
from kubernetes import client

from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.contract.costs import SENT, requests_of
from tests.costs import table
from tests.costs.lives import LIVES
from tests.operator_process import OperatorProcess

pytest_plugins = ["tests.contract.operator_fixtures"]

ELSEWHERE = ("the operator restarts", "at rest")
"""Lives whose names start like this are not played here. The last test of this file starts an
operator, and tests/e2e/test_at_rest.py observes pipelines at rest."""
NEWEST = {"an app container restarts, InPlace"}
PLAYED = [
    pytest.param(life, marks=[pytest.mark.newest] if life in NEWEST else [])
    for life in LIVES
    if not life.startswith(ELSEWHERE)
]


@pytest.fixture(scope="module")
def shared_constants() -> dict[str, float]:
    """Returns a long FIRST_REPORT_GRACE: a Pod without a report for 3 s costs a status write, and a
    busy machine may need longer for the report."""
    return {"initpipeline.core.pod_ownership.FIRST_REPORT_GRACE": 120}


class TestRequests:
    @pytest.mark.parametrize("life", PLAYED)
    def test_life_costs_the_requests_of_the_table(
        self,
        life: str,
        env: ContractEnv,
        shared_operator: OperatorProcess,
        shared_request_counter: RequestCounter,
    ) -> None:
        requests = requests_of(life, env, shared_request_counter, shared_operator)
        changed = table.difference(life, requests, SENT)
        assert not changed, changed

    def test_effective_resources_cost_no_request_of_their_own(
        self,
        api: client.ApiClient,
        env: ContractEnv,
        shared_operator: OperatorProcess,
        shared_request_counter: RequestCounter,
    ) -> None:
        """Admission sets a memory request that the template does not have."""
        memory = {"type": "Container", "defaultRequest": {"memory": "64Mi"}}
        limits = {"metadata": {"name": "memory"}, "spec": {"limits": [memory]}}
        client.CoreV1Api(api).create_namespaced_limit_range(env.namespace, limits)
        life = "one step, to Ready"
        requests = requests_of(life, env, shared_request_counter, shared_operator)
        assert env.status()["effectiveResources"] == {"requests": {"memory": "64Mi"}}
        changed = table.difference(life, requests, SENT)
        assert not changed, changed


def test_start_lists_each_resource_and_checks_permissions(
    stopped_operator: OperatorProcess, request_counter: RequestCounter
) -> None:
    request_counter.reset()
    stopped_operator.start()
    assert request_counter.counts_at_rest() == Counter(
        {
            # Discovery: one by the operator, six by Kopf. OpenAPI: two by the operator.
            "get  200": 9,
            "create selfsubjectaccessreviews 201": 17,
            "list initpipelines 200": 1,
            "list pods 200": 1,  # the watch continues from it
        }
    )
