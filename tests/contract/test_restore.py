"""What survives a restore by other means than a copy of etcd (docs/operations.md#back-up)."""

from typing import Any

import pytest

from initpipeline.api import names
from tests.builders import running_pod
from tests.contract.contract_env import ContractEnv
from tests.operator_process import OperatorProcess
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]


@pytest.fixture
def stopped(env: ContractEnv, operator: OperatorProcess) -> OperatorProcess:
    """Returns the operator, which has stopped during run 2. Run 1 is in the history."""
    env.create()
    env.run_pod(running_pod())
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "again"}}})
    env.wait("run 2", lambda status: status["run"]["number"] == 2)
    env.delete_pod()  # as the kubelet does when the containers have ended
    env.run_pod(running_pod(2), run=2)
    env.wait("Ready", is_ready)
    operator.stop()
    assert [run[0] for run in runs_in(env.status())] == [1, 2]
    return operator


def test_run_number_continues_if_only_the_status_is_lost(
    env: ContractEnv, stopped: OperatorProcess
) -> None:
    before = env.pod()
    assert before is not None
    env.pipelines.patch_status("demo", dict.fromkeys(env.status()))
    assert runs_in(env.status()) == []
    stopped.start()
    env.wait("Ready", is_ready)
    assert [run[0] for run in runs_in(env.status())] == [2]
    pod = env.pod()
    assert pod is not None
    assert pod["metadata"]["uid"] == before["metadata"]["uid"], "the Pod was replaced"
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "later"}}})
    env.wait("run 3", lambda status: status["run"]["number"] == 3)


def test_run_numbers_start_at_1_if_the_pod_is_lost_as_well(
    env: ContractEnv, stopped: OperatorProcess
) -> None:
    restored: Any = env.pipeline()
    env.delete("Background")
    env.delete_pod()  # as the garbage collector does
    metadata = {name: restored["metadata"][name] for name in ("name", "annotations")}
    env.pipelines.create({**restored, "metadata": metadata})
    assert runs_in(env.status()) == [], "the API server stored a status"
    stopped.start()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)
    assert [run[0] for run in runs_in(env.status())] == [1]
