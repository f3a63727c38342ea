"""What a pipeline's life costs the API server: every request of the operator, counted exactly.

The numbers are the specification. A change that raises one has to say why.
"""

from collections import Counter

import pytest

from tests.builders import fresh_pod, running_pod
from tests.contract.operator_world import Ledger, World, ready, runs
from tests.operator_process import OperatorProcess

pytest_plugins = ["tests.contract.operator_fixtures"]

WRITE = "patch initpipelines/status 200"
CREATE = "create pods 201"
DELETE = "delete pods 200"
READ = "get pods 404"

FIRST_STEP = fresh_pod().init("one", running=True)
SECOND_STEP = fresh_pod().initialized("one").init("two", running=True)
INITIALIZED = running_pod().ready(False)
READY = running_pod()
RESTARTED = running_pod().app(running=True, restarts=1)

STARTS = {
    "get  200": 7,  # discovery: one is ours, six are Kopf's
    "list initpipelines 200": 1,
    "list pods 200": 2,  # once before the first decision, once by the watch
    "create selfsubjectaccessreviews 201": 9,
}


@pytest.mark.usefixtures("operator")
class TestLife:
    """From creation to Ready, with two init containers: five status writes, one Pod, no read."""

    @pytest.fixture(autouse=True)
    def at_rest(self, operator: OperatorProcess, ledger: Ledger) -> None:
        assert operator.running
        ledger.at_rest()
        ledger.forget()

    def test_until_ready(self, world: World, ledger: Ledger) -> None:
        world.create()
        world.live(FIRST_STEP, SECOND_STEP, INITIALIZED, READY)
        world.wait("Ready", ready)
        assert ledger.at_rest() == Counter({WRITE: 5, CREATE: 1})

    def test_nothing_at_rest(self, world: World, ledger: Ledger) -> None:
        world.create()
        world.live(READY)
        world.wait("Ready", ready)
        ledger.at_rest()
        ledger.forget()
        assert ledger.at_rest(quiet=5) == Counter()

    def test_a_status_that_tells_nothing_new(self, world: World, ledger: Ledger) -> None:
        world.create()
        world.live(READY)
        world.wait("Ready", ready)
        ledger.at_rest()
        ledger.forget()
        world.report(READY.condition("PodReadyToStartContainers"))
        world.patch({"metadata": {"labels": {"team": "a"}}})
        assert ledger.at_rest() == Counter()

    def test_a_lost_pod(self, world: World, ledger: Ledger) -> None:
        """One read makes sure that it is lost; the end of a run and its successor are one write,
        the first step of the successor another."""
        world.create()
        world.live(READY)
        world.wait("Ready", ready)
        ledger.at_rest()
        ledger.forget()
        world.delete_pod()
        world.live(FIRST_STEP, run=2)
        assert ledger.at_rest() == Counter({READ: 1, WRITE: 1 + 1, CREATE: 1})

    def test_a_restarted_container(self, world: World, ledger: Ledger) -> None:
        """The old Pod is deleted by the operator, and ended here by the test."""
        world.create()
        world.live(READY)
        world.wait("Ready", ready)
        ledger.at_rest()
        ledger.forget()
        world.report(RESTARTED)
        world.wait("the second run", lambda s: len(runs(s)) == 2)
        ledger.at_rest()
        world.delete_pod()
        world.live(FIRST_STEP, run=2)
        assert ledger.at_rest() == Counter({WRITE: 1 + 1, DELETE: 1, CREATE: 1})


def test_start(stopped_operator: OperatorProcess, ledger: Ledger) -> None:
    ledger.forget()
    stopped_operator.start()
    assert ledger.at_rest() == Counter(STARTS)
