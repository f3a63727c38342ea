"""Events, as the API server keeps them and kubectl lists them."""

import pytest

from tests.builders import NAME, End, PodBuilder, fresh_pod, pipeline, running_pod
from tests.contract.conftest import Kubectl
from tests.contract.operator_world import Ledger, World, ready, runs, until

pytest_plugins = ["tests.contract.operator_fixtures"]

CAUSE = "no such table"


def failing(times: int, running: bool = False) -> PodBuilder:
    """The first step has failed so often, and may run again."""
    start = 20 * (times - 1)
    if running:
        last = End(1, start, start + 8, message=CAUSE)
        return fresh_pod().init("one", running=True, start=start + 20, restarts=times, last=last)
    return fresh_pod().init("one", exit=1, start=start, message=CAUSE, restarts=times - 1)


@pytest.fixture
def described(kubectl: Kubectl, world: World) -> "Described":
    return Described(kubectl, world)


class Described:
    """The events in the words of ``kubectl describe``."""

    def __init__(self, kubectl: Kubectl, world: World) -> None:
        self._kubectl, self._world = kubectl, world

    def rows(self) -> list[list[str]]:
        """Type, reason, age, whose word it is, message."""
        text = self._kubectl("describe", "ipl", NAME, "--namespace", self._world.namespace)
        _, _, table = text.partition("\nEvents:")
        rows = [line.split(maxsplit=2) for line in table.splitlines()[3:]]
        return [[kind, reason, *rest.split("  ")] for kind, reason, rest in rows]

    def wait(self, count: int) -> list[tuple[str, str]]:
        """Type and reason of each, once there are so many."""
        until(lambda: len(self.rows()) >= count, f"{count} events", self.rows)
        return [(kind, reason) for kind, reason, *_ in self.rows()]


@pytest.mark.usefixtures("shared_operator")
class TestDescribed:
    def test_a_failing_pipeline(self, world: World, described: Described) -> None:
        """Each thing once, in the order in which it happened."""
        never = {"spec": {**pipeline().template["spec"], "restartPolicy": "Never"}}
        world.create(pipeline().with_template(never))
        world.live(failing(1).phase("Failed"))
        assert described.wait(4) == [
            ("Normal", "RunStarted"),
            ("Warning", "StepFailed"),
            ("Warning", "RunFailed"),
            ("Warning", "GivenUp"),
        ]
        for row in described.rows()[1:]:
            assert CAUSE in row[-1], "the cause is not told"

    def test_a_lost_pod(self, world: World, described: Described) -> None:
        world.create()
        world.live(running_pod())
        world.wait("Ready", ready)
        world.delete_pod()
        world.wait("the second run", lambda status: len(runs(status)) == 2)
        assert described.wait(4) == [
            ("Normal", "RunStarted"),
            ("Normal", "RunInitialized"),
            ("Warning", "PodLost"),
            ("Normal", "RunStarted"),
        ]

    def test_a_step_that_fails_again_and_again_is_one_event(
        self, world: World, described: Described, shared_ledger: Ledger
    ) -> None:
        world.create()
        again = [
            state
            for times in range(1, 5)
            for state in (failing(times, running=True), failing(times + 1))
        ]
        world.live(failing(1), *again)
        requests = shared_ledger.at_rest()
        assert described.wait(2) == [("Normal", "RunStarted"), ("Warning", "StepFailed")]
        assert "(x4 over" in " ".join(described.rows()[1]), "the fifth is told with the eighth"
        told = {one: n for one, n in requests.items() if " events " in one}
        assert told == {"create events 201": 2, "patch events 200": 2}
