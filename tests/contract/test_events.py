"""Events of the operator, as the API server stores them and `kubectl describe` prints them."""

import pytest

from tests.builders import NAME, End, PodBuilder, fresh_pod, pipeline, running_pod
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.kubectl import Kubectl
from tests.poll import poll_until
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

CAUSE = "no such table"


def failing(times: int, running: bool = False) -> PodBuilder:
    """Returns a Pod whose first step has failed this often, and possibly runs again."""
    start = 20 * (times - 1)
    if running:
        last = End(1, start, start + 8, message=CAUSE)
        return fresh_pod().init("one", running=True, start=start + 20, restarts=times, last=last)
    return fresh_pod().init("one", exit=1, start=start, message=CAUSE, restarts=times - 1)


@pytest.fixture
def described(kubectl: Kubectl, env: ContractEnv) -> "DescribedEvents":
    return DescribedEvents(kubectl, env)


class DescribedEvents:
    """The events of the pipeline in the output of ``kubectl describe``."""

    def __init__(self, kubectl: Kubectl, env: ContractEnv) -> None:
        self._kubectl, self._env = kubectl, env

    def rows(self) -> list[list[str]]:
        """Returns type, reason, age, reporter and message of each event."""
        text = self._kubectl("describe", "ipl", NAME, "--namespace", self._env.namespace)
        _, _, table = text.partition("\nEvents:")
        rows = [line.split(maxsplit=2) for line in table.splitlines()[3:]]
        return [[kind, reason, *rest.split("  ")] for kind, reason, rest in rows]

    def wait(self, count: int) -> list[tuple[str, str]]:
        """Wait for this number of events. Returns type and reason of each."""
        poll_until(
            lambda: len(self.rows()) >= count, TIMEOUT_SECONDS, f"{count} events", state=self.rows
        )
        return [(kind, reason) for kind, reason, *_ in self.rows()]


@pytest.mark.usefixtures("shared_operator")
class TestEvents:
    def test_failed_pipeline_has_one_event_per_cause_in_order(
        self, env: ContractEnv, described: DescribedEvents
    ) -> None:
        never = {"spec": {**pipeline().template["spec"], "restartPolicy": "Never"}}
        env.create(pipeline().with_template(never))
        env.run_pod(failing(1).phase("Failed"))
        assert described.wait(4) == [
            ("Normal", "RunStarted"),
            ("Warning", "StepFailed"),
            ("Warning", "RunFailed"),
            ("Warning", "GivenUp"),
        ]
        for row in described.rows()[1:]:
            assert CAUSE in row[-1], "the message does not have the cause"

    def test_lost_pod_is_a_warning_before_the_next_run(
        self, env: ContractEnv, described: DescribedEvents
    ) -> None:
        env.create()
        env.run_pod(running_pod())
        env.wait("Ready", is_ready)
        env.delete_pod()
        env.wait("the second run", lambda status: len(runs_in(status)) == 2)
        assert described.wait(4) == [
            ("Normal", "RunStarted"),
            ("Normal", "RunInitialized"),
            ("Warning", "PodLost"),
            ("Normal", "RunStarted"),
        ]

    def test_repeated_step_failure_is_one_event_with_a_count(
        self, env: ContractEnv, described: DescribedEvents, shared_request_counter: RequestCounter
    ) -> None:
        env.create()
        again = [
            state
            for times in range(1, 5)
            for state in (failing(times, running=True), failing(times + 1))
        ]
        env.run_pod(failing(1), *again)
        shared_request_counter.counts_at_rest()
        assert described.wait(2) == [("Normal", "RunStarted"), ("Warning", "StepFailed")]
        assert "(x4 over" in " ".join(described.rows()[1]), (
            "the fifth failure is reported with the eighth"
        )
