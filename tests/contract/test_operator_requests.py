"""The exact number of requests that the operator sends for the events of a pipeline.

The numbers are the specification. A change that raises one must give the reason.
"""

from collections import Counter

import pytest
from kubernetes import client

from tests.builders import fresh_pod, pipeline, running_pod
from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.operator_process import OperatorProcess
from tests.pod_shapes import cpu
from tests.statuses import condition, is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

WRITE = "patch initpipelines/status 200"
CREATE = "create pods 201"
DELETE = "delete pods 200"
READ = "get pods 404"
GET = "get initpipelines 200"
EVENT = "create events 201"

FIRST_STEP = fresh_pod().init("one", running=True)
SECOND_STEP = fresh_pod().initialized("one").init("two", running=True)
INITIALIZED = running_pod().ready(False)
READY = running_pod()
RESTARTED = running_pod().app(running=True, restarts=1)


@pytest.mark.usefixtures("shared_operator")
class TestRequests:
    def test_first_run_costs_one_write_per_report_of_the_kubelet(
        self, env: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """There is one read, because the watch delivers only metadata, and one write for each
        report of the kubelet. The first of these records the run. The events report that the run
        started and is initialized."""
        env.create()
        env.run_pod(FIRST_STEP, SECOND_STEP, INITIALIZED, READY)
        env.wait("Ready", is_ready)
        assert shared_request_counter.counts_at_rest() == Counter(
            {GET: 1, WRITE: 4, CREATE: 1, EVENT: 2}
        )

    def test_effective_resources_cost_no_write_of_their_own(
        self, api: client.ApiClient, env: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """Admission sets a memory request that the template does not have."""
        memory = {"type": "Container", "defaultRequest": {"memory": "64Mi"}}
        limits = {"metadata": {"name": "memory"}, "spec": {"limits": [memory]}}
        client.CoreV1Api(api).create_namespaced_limit_range(env.namespace, limits)
        inits, apps = [cpu("one", "0.5"), cpu("two", "1")], [cpu("app", "700m")]
        template = {"spec": {"initContainers": inits, "containers": apps}}
        env.create(pipeline().with_template(template))
        env.run_pod(FIRST_STEP, READY)
        status = env.wait("Ready", lambda status: is_ready(status) and status)
        assert status["effectiveResources"] == {"requests": {"cpu": "1", "memory": "64Mi"}}
        assert shared_request_counter.counts_at_rest() == Counter(
            {GET: 1, WRITE: 2, CREATE: 1, EVENT: 2}
        )

    @pytest.fixture
    def started(self, env: ContractEnv, shared_request_counter: RequestCounter) -> ContractEnv:
        """Returns an environment with a Ready pipeline, and resets the counter."""
        env.create()
        env.run_pod(READY)
        env.wait("Ready", is_ready)
        shared_request_counter.counts_at_rest()
        shared_request_counter.reset()
        return env

    @pytest.mark.usefixtures("started")
    def test_ready_pipeline_causes_no_request(self, shared_request_counter: RequestCounter) -> None:
        assert shared_request_counter.counts_at_rest(quiet=5) == Counter()

    def test_irrelevant_change_causes_no_write(
        self, started: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """The labels are changed, so the pipeline is read."""
        started.report(READY.condition("PodReadyToStartContainers"))
        started.patch({"metadata": {"labels": {"team": "a"}}})
        assert shared_request_counter.counts_at_rest() == Counter({GET: 1})

    def test_lost_pod_costs_three_writes_and_one_read(
        self, started: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """One write reports that the Pod is terminating, one the end of the run and the next run,
        one its first step. One read confirms that the Pod is gone. The events report that the Pod
        is lost and the next run started."""
        started.delete_pod(grace_seconds=30)
        started.wait(
            "the termination of the Pod",
            lambda s: condition(s, "Ready")["reason"] == "PodTerminating",
        )
        started.delete_pod()
        started.run_pod(FIRST_STEP, run=2)
        assert shared_request_counter.counts_at_rest() == Counter(
            {READ: 1, WRITE: 1 + 1 + 1, CREATE: 1, EVENT: 2}
        )

    def test_restarted_container_costs_two_writes_and_a_new_pod(
        self, started: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """The operator deletes the old Pod, and the test ends it. The event reports that the second
        run started."""
        started.report(RESTARTED)
        started.wait("the second run", lambda s: len(runs_in(s)) == 2)
        shared_request_counter.counts_at_rest()
        started.delete_pod()
        started.run_pod(FIRST_STEP, run=2)
        assert shared_request_counter.counts_at_rest() == Counter(
            {WRITE: 1 + 1, DELETE: 1, CREATE: 1, EVENT: 1}
        )


def test_start_lists_each_resource_and_checks_permissions(
    stopped_operator: OperatorProcess, request_counter: RequestCounter
) -> None:
    request_counter.reset()
    stopped_operator.start()
    assert request_counter.counts_at_rest() == Counter(
        {
            "get  200": 7,  # discovery: one by the operator, six by Kopf
            "create selfsubjectaccessreviews 201": 12,
            "list initpipelines 200": 1,
            "list pods 200": 1,  # the watch continues from it
        }
    )
