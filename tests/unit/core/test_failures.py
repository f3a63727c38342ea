"""How a container failed, and the evidence of it."""

from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.models import FailedStep
from initpipeline.api.reasons import Reason
from initpipeline.core import failures
from initpipeline.core.container_status import Terminated
from initpipeline.core.observation import observe
from initpipeline.core.text import clip
from tests.builders import End, PodBuilder, fresh_pod, running_pod
from tests.unit.core.samples import RESTARTING_ALL, a_run, four_steps


@pytest.mark.parametrize(
    ("end", "restarts", "text"),
    [
        pytest.param(End(1), 0, "exited with 1", id="no message"),
        pytest.param(End(1, message="oh\n"), 0, "exited with 1: oh", id="message"),
        pytest.param(End(1, message="\n"), 0, "exited with 1", id="empty message"),
        pytest.param(
            End(1, message="x" * 2000 + "oh"),
            0,
            "exited with 1: ... " + "x" * 634 + "oh",
            id="end of a long message",
        ),
        pytest.param(End(0), 1, "exited with 0, restarted 1 time", id="restarted once"),
        pytest.param(End(2), 2, "exited with 2, restarted 2 times", id="restarted twice"),
        pytest.param(End(143, signal=15), 0, "was terminated by signal 15", id="signal"),
        pytest.param(End(137, reason="OOMKilled"), 0, "exited with 137 (OOMKilled)", id="reason"),
        pytest.param(
            End(128, reason="StartError", message="no such file"),
            0,
            "could not be started: no such file",
            id="not started",
        ),
    ],
)
def test_ending_has_code_reason_restarts_and_message(end: End, restarts: int, text: str) -> None:
    terminated = Terminated.from_api({"terminated": end.raw()})
    assert terminated is not None
    assert failures.ending(terminated, restarts) == text


@pytest.mark.parametrize("restarts", [0, 1, 20])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(End(1), id="exit code"),
        pytest.param(End(-1, reason="Odd (code)"), id="reason"),
        pytest.param(End(137, signal=9, reason="OOMKilled"), id="signal"),
    ],
)
def test_replaced_message_is_that_at_the_end_of_the_text(end: End, restarts: int) -> None:
    def text(message: str | None) -> str:
        terminated = Terminated.from_api({"terminated": replace(end, message=message).raw()})
        assert terminated is not None
        return f"step: {failures.ending(terminated, restarts)}"

    for message in ("e", "one: two\nexited with 2: three", "x" * 2000):
        assert failures.replace_message(text(message), "-") == text("-")
        cut = clip(text(message), len(text("-")) + 10)
        assert failures.replace_message(cut, "-") == text("-")
    assert failures.replace_message(text(None), "-") == text(None)


def test_message_of_the_container_runtime_is_not_replaced() -> None:
    text = "could not be started: no such file"
    assert failures.replace_message(text, "-") == text


class TestFailedStep:
    """The evidence of a failure that outlives the Pod."""

    @pytest.mark.parametrize(
        ("observed", "name", "exit_code", "restarts"),
        [
            pytest.param(four_steps().init("migrate", exit=3), "migrate", 3, 0, id="failed"),
            pytest.param(
                four_steps().init("migrate", exit=137), "migrate", 137, 0, id="killed by SIGKILL"
            ),
            pytest.param(
                four_steps().init("migrate", waiting="CrashLoopBackOff", restarts=2, last=End(4)),
                "migrate",
                4,
                2,
                id="waits to be retried",
            ),
            pytest.param(
                four_steps().init("migrate", running=True, restarts=2, last=End(4)),
                "migrate",
                4,
                2,
                id="is being retried: running, it is started but not over it",
            ),
            pytest.param(
                four_steps().sidecar(
                    "migrate", waiting="CrashLoopBackOff", restarts=2, last=End(4)
                ),
                "migrate",
                4,
                2,
                id="a sidecar crashes",
            ),
        ],
    )
    def test_failed_step_has_name_exit_code_and_restarts(
        self, observed: PodBuilder, name: str, exit_code: int, restarts: int
    ) -> None:
        step = failures.failed_step(observed.build().init_container_statuses)
        assert step is not None
        assert (step.name, step.exit_code, step.restart_count) == (name, exit_code, restarts)

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(four_steps(), id="nothing failed"),
            pytest.param(
                four_steps().init("migrate", exit=0, restarts=2, last=End(1)), id="got over it"
            ),
            pytest.param(
                four_steps().sidecar("migrate", running=True, restarts=2, last=End(1)),
                id="a sidecar that runs again",
            ),
            pytest.param(
                four_steps().init(
                    "migrate", waiting="RestartingAllContainers", last=RESTARTING_ALL
                ),
                id="restarted in place",
            ),
        ],
    )
    def test_recovered_or_restarted_step_has_not_failed(self, observed: PodBuilder) -> None:
        assert failures.failed_step(observed.build().init_container_statuses) is None

    @pytest.mark.parametrize(
        ("observed", "exit_code"),
        [
            pytest.param(four_steps().init("migrate", exit=137), None, id="killed with the Pod"),
            pytest.param(four_steps().init("migrate", exit=143), None, id="ended by SIGTERM"),
            pytest.param(
                four_steps().init("migrate", exit=137, reason="ContainerStatusUnknown", start=None),
                None,
                id="never there: its image did not come",
            ),
            pytest.param(
                four_steps().init("migrate", exit=137, restarts=1, last=End(4)),
                4,
                id="failed before",
            ),
            pytest.param(
                four_steps().init("migrate", waiting="CrashLoopBackOff", restarts=1, last=End(137)),
                137,
                id="killed before, and waited to be retried",
            ),
            pytest.param(
                four_steps().init("migrate", exit=137, reason="OOMKilled"), 137, id="out of memory"
            ),
            pytest.param(four_steps().init("migrate", exit=4), 4, id="failed as the Pod was lost"),
        ],
    )
    def test_step_terminated_by_the_loss_has_not_failed(
        self, observed: PodBuilder, exit_code: int | None
    ) -> None:
        step = failures.failed_step(observed.build().init_container_statuses, pod_lost=True)
        assert (step and step.exit_code) == exit_code

    def test_evidence_has_reason_and_end_of_long_message(self) -> None:
        log = "x" * 2000 + "cannot connect"
        observed = four_steps().init("migrate", exit=137, reason="OOMKilled", message=log)
        step = failures.failed_step(observed.build().init_container_statuses)
        assert step is not None
        assert step.reason == "OOMKilled"
        assert step.message == "... " + "x" * 1006 + "cannot connect"


class TestFailureOfCurrentStep:
    """The evidence of the step at which a run was ended. The step may still run."""

    @pytest.mark.parametrize(
        ("observed", "evidence"),
        [
            pytest.param(
                four_steps().init(
                    "migrate",
                    waiting="CrashLoopBackOff",
                    restarts=2,
                    last=End(143, signal=15, message="stopped"),
                ),
                {"name": "migrate", "exit_code": 143, "signal": 15, "reason": "Error"}
                | {"message": "stopped", "restart_count": 2},
                id="failed",
            ),
            pytest.param(
                four_steps().init("migrate", running=True, restarts=1),
                {"name": "migrate", "reason": "InitDeadlineExceeded", "restart_count": 1},
                id="still runs",
            ),
            pytest.param(
                fresh_pod().init("one", reported=False),
                {"name": "one", "reason": "InitDeadlineExceeded", "restart_count": 0},
                id="never reported",
            ),
        ],
    )
    def test_current_step_has_evidence_or_the_reason_of_the_end(
        self, observed: PodBuilder, evidence: dict[str, Any]
    ) -> None:
        step = failures.failure_of_current_step(
            observe(observed.build(), a_run()), Reason.INIT_DEADLINE_EXCEEDED
        )
        assert step == FailedStep(**evidence)

    def test_initialized_run_has_no_current_step(self) -> None:
        observed = observe(running_pod().build(), a_run())
        assert failures.failure_of_current_step(observed, Reason.INIT_DEADLINE_EXCEEDED) is None
