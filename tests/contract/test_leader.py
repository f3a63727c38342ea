"""Several replicas against a real API server: who reconciles, and what a paused one can write."""

import os
import signal
from pathlib import Path

from initpipeline.api import names
from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv
from tests.contract.replicas import FAILOVER_SECONDS, Replicas, paused
from tests.faultproxy import FaultProxy
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]


def test_only_the_holder_reconciles(replicas: Replicas, env: ContractEnv) -> None:
    first = replicas.start("first")
    replicas.wait_for("first")
    second = replicas.start("second")
    env.create()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)
    # The process logs a run after it has written the status.
    poll_until(lambda: runs_started(first), FAILOVER_SECONDS, "first has logged the run")
    assert [runs_started(process) for process in (first, second)] == [1, 0]


def test_standby_takes_over_when_the_holder_is_stopped(
    replicas: Replicas, env: ContractEnv
) -> None:
    """It has all objects in memory, so it lists nothing."""
    first = replicas.start("first")
    replicas.wait_for("first")
    second = replicas.start("second")
    assert first.stop() == 0
    replicas.wait_for("second")
    env.create()
    poll_until(lambda: runs_started(second) == 1, FAILOVER_SECONDS, "second has started the run")


def test_standby_takes_over_when_the_holder_is_killed(replicas: Replicas, env: ContractEnv) -> None:
    """The pipeline that was created meanwhile is reconciled, although its event came before."""
    first = replicas.start("first")
    replicas.wait_for("first")
    second = replicas.start("second")
    first.kill()
    env.create()
    replicas.wait_for("second")
    poll_until(lambda: runs_started(second) == 1, FAILOVER_SECONDS, "second has started the run")


def test_standby_takes_over_when_the_node_of_the_holder_vanishes(
    replicas: Replicas, env: ContractEnv, control_plane: Cluster, user: str, tmp_path: Path
) -> None:
    """No connection is closed: the API server and the standby only observe that nothing arrives."""
    with FaultProxy(tmp_path) as proxy:
        upstream = control_plane.kubeconfig_for(user, ["system:masters"])
        first = replicas.start("first", kubeconfig=proxy.kubeconfig(upstream))
        replicas.wait_for("first")
        replicas.start("second")
        env.create()
        env.run_pod(running_pod())
        env.wait("Ready", is_ready)
        with proxy.partition():
            os.kill(first.pid, signal.SIGSTOP)
            env.delete_pod()
            replicas.wait_for("second")
            env.run_pod(running_pod(run=2), run=2)
            env.wait("run 2 is Ready", is_ready)
    assert runs_in(env.status()) == [(1, "Created", "Lost"), (2, "PodLost", "")]


def test_restarted_replica_takes_its_own_lease_at_once(
    replicas: Replicas, env: ContractEnv
) -> None:
    first = replicas.start("first", "--lease-seconds", "600")
    replicas.wait_for("first")
    first.kill()
    first.start()
    env.create()
    env.wait_for_pod(1)


def test_lease_of_a_holder_that_does_not_exist_is_taken_when_its_duration_has_passed(
    replicas: Replicas, env: ContractEnv
) -> None:
    replicas.put("ghost", seconds=3600)
    replicas.start("first", event="standing by")
    env.create()
    replicas.put("ghost", seconds=3)
    env.wait_for_pod(1)
    assert replicas.holder() == "first"


def test_lease_of_a_holder_that_does_not_exist_is_taken_when_a_user_deletes_it(
    replicas: Replicas, env: ContractEnv
) -> None:
    replicas.put("ghost", seconds=3600)
    replicas.start("first", event="standing by")
    env.create()
    replicas.delete()
    env.wait_for_pod(1)
    assert replicas.holder() == "first"


def test_paused_holder_ends_after_another_has_taken_over(
    replicas: Replicas, env: ContractEnv
) -> None:
    """Meanwhile the other one has served a user's request. Nothing is done twice."""
    first = replicas.start("first")
    replicas.wait_for("first")
    replicas.start("second")
    env.create()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)
    with paused(first):
        replicas.wait_for("second")
        env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "again"}}})
        env.wait("the request", lambda status: status["run"]["number"] == 2)
        env.delete_pod()
        env.run_pod(running_pod(run=2), run=2)
        env.wait("run 2 is Ready", is_ready)
    poll_until(lambda: not first.running, FAILOVER_SECONDS, "the paused holder ends")
    assert 'is lost: "second" holds it' in first.tail()
    assert replicas.holder() == "second"
    assert [(number, trigger) for number, trigger, _ in runs_in(env.status())] == [
        (1, "Created"),
        (2, "Requested"),
    ]


def runs_started(process: OperatorProcess) -> int:
    return sum(line["message"] == "run started" for line in process.lines())


def test_cold_standby_takes_over_when_the_holder_is_stopped(
    replicas: Replicas, env: ContractEnv
) -> None:
    first = replicas.start("first")
    replicas.wait_for("first")
    second = replicas.start("second", "--standby", "cold", event="standing by")
    env.create()
    env.wait("the first run", lambda status: status.get("run"))
    assert first.stop() == 0
    replicas.wait_for("second")
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)
    assert runs_started(second) == 0
