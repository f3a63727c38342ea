"""What a pipeline's life costs the API server: every request of the operator, counted exactly.

The numbers are the specification. A change that raises one has to say why.
"""

from collections import Counter

import pytest
from kubernetes import client

from tests.builders import fresh_pod, pipeline, running_pod
from tests.contract.operator_world import Ledger, World, condition, ready, runs
from tests.operator_process import OperatorProcess
from tests.pod_shapes import cpu

pytest_plugins = ["tests.contract.operator_fixtures"]

WRITE = "patch initpipelines/status 200"
CREATE = "create pods 201"
DELETE = "delete pods 200"
READ = "get pods 404"
EVENT = "create events 201"

FIRST_STEP = fresh_pod().init("one", running=True)
SECOND_STEP = fresh_pod().initialized("one").init("two", running=True)
INITIALIZED = running_pod().ready(False)
READY = running_pod()
RESTARTED = running_pod().app(running=True, restarts=1)


@pytest.mark.usefixtures("shared_operator")
class TestLife:
    def test_until_ready(self, world: World, shared_ledger: Ledger) -> None:
        """A write for the run before its Pod is created, and one for each word of the kubelet. The
        events: that the run started, and that it is initialized."""
        world.create()
        world.live(FIRST_STEP, SECOND_STEP, INITIALIZED, READY)
        world.wait("Ready", ready)
        assert shared_ledger.at_rest() == Counter({WRITE: 1 + 4, CREATE: 1, EVENT: 2})

    def test_effective_resources_are_told_by_the_writes_that_are_due_anyway(
        self, api: client.ApiClient, world: World, shared_ledger: Ledger
    ) -> None:
        """Admission gives each container some memory, of which the template knows nothing."""
        memory = {"type": "Container", "defaultRequest": {"memory": "64Mi"}}
        limits = {"metadata": {"name": "memory"}, "spec": {"limits": [memory]}}
        client.CoreV1Api(api).create_namespaced_limit_range(world.namespace, limits)
        inits, apps = [cpu("one", "0.5"), cpu("two", "1")], [cpu("app", "700m")]
        template = {"spec": {"initContainers": inits, "containers": apps}}
        world.create(pipeline().with_template(template))
        world.live(FIRST_STEP, READY)
        status = world.wait("Ready", lambda status: ready(status) and status)
        assert status["effectiveResources"] == {"requests": {"cpu": "1", "memory": "64Mi"}}
        assert shared_ledger.at_rest() == Counter({WRITE: 1 + 2, CREATE: 1, EVENT: 2})

    @pytest.fixture
    def started(self, world: World, shared_ledger: Ledger) -> World:
        """The pipeline is Ready, and what that cost is forgotten."""
        world.create()
        world.live(READY)
        world.wait("Ready", ready)
        shared_ledger.at_rest()
        shared_ledger.forget()
        return world

    @pytest.mark.usefixtures("started")
    def test_nothing_at_rest(self, shared_ledger: Ledger) -> None:
        assert shared_ledger.at_rest(quiet=5) == Counter()

    def test_nothing_for_what_tells_nothing_new(
        self, started: World, shared_ledger: Ledger
    ) -> None:
        started.report(READY.condition("PodReadyToStartContainers"))
        started.patch({"metadata": {"labels": {"team": "a"}}})
        assert shared_ledger.at_rest() == Counter()

    def test_a_lost_pod(self, started: World, shared_ledger: Ledger) -> None:
        """One write that it terminates, one for the end of the run and its successor, one for the
        first step of that; and one read, to make sure that the Pod is lost. The events: that it
        was, and that the next run started."""
        started.delete_pod(grace_seconds=30)
        started.wait("word of it", lambda s: condition(s, "Ready")["reason"] == "PodTerminating")
        started.delete_pod()
        started.live(FIRST_STEP, run=2)
        assert shared_ledger.at_rest() == Counter({READ: 1, WRITE: 1 + 1 + 1, CREATE: 1, EVENT: 2})

    def test_a_restarted_container(self, started: World, shared_ledger: Ledger) -> None:
        """The old Pod is deleted by the operator, and ended by the test. The event: that the second
        run started."""
        started.report(RESTARTED)
        started.wait("the second run", lambda s: len(runs(s)) == 2)
        shared_ledger.at_rest()
        started.delete_pod()
        started.live(FIRST_STEP, run=2)
        assert shared_ledger.at_rest() == Counter({WRITE: 1 + 1, DELETE: 1, CREATE: 1, EVENT: 1})


def test_start(stopped_operator: OperatorProcess, ledger: Ledger) -> None:
    ledger.forget()
    stopped_operator.start()
    assert ledger.at_rest() == Counter(
        {
            "get  200": 7,  # discovery: one is ours, six are Kopf's
            "create selfsubjectaccessreviews 201": 12,
            "list initpipelines 200": 1,
            "list pods 200": 2,  # once before the first decision, once by the watch
        }
    )
