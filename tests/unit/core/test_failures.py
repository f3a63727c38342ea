"""How a container failed, and the evidence of it."""

import pytest

from initpipeline.core import failures
from tests.builders import End, PodBuilder
from tests.unit.core.samples import RESTARTING_ALL, four_steps


class TestFailedStep:
    """The evidence of a failure that outlives the Pod."""

    @pytest.mark.parametrize(
        ("observed", "name", "exit_code", "restarts"),
        [
            pytest.param(four_steps().init("migrate", exit=3), "migrate", 3, 0, id="failed"),
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

    def test_evidence_has_reason_and_clipped_message(self) -> None:
        observed = four_steps().init("migrate", exit=137, reason="OOMKilled", message="x" * 5000)
        step = failures.failed_step(observed.build().init_container_statuses)
        assert step is not None
        assert step.reason == "OOMKilled"
        assert step.message == "x" * 1020 + " ..."
