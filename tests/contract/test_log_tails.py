"""The operator's option --log-tails=omit, on a real API server."""

from pathlib import Path

import pytest

from tests.builders import fresh_pod, pipeline
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess

pytest_plugins = ["tests.contract.operator_fixtures"]

SECRET = "password=hunter2"


@pytest.fixture
def omitting_operator(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> OperatorProcess:
    """Returns an operator with the option that was not started yet."""
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    arguments = ["--namespace", namespace, "--sweep-seconds", "99999", "--log-tails=omit"]
    return OperatorProcess(kubeconfig, tmp_path / "omitting.log", arguments)


@pytest.fixture
def failed(env: ContractEnv, operator: OperatorProcess) -> ContractEnv:
    """Creates a pipeline whose step has failed. The operator records its output, and is stopped."""
    env.create(pipeline().policy(logTails="Record"))
    env.wait_for_pod(1)
    env.bind()
    env.report(fresh_pod().init("one", exit=3, message=SECRET))
    env.wait("the message", lambda status: SECRET in str(status))
    operator.stop()
    return env


def test_option_omits_messages_and_removes_those_in_status(
    failed: ContractEnv,
    omitting_operator: OperatorProcess,
    kubectl: Kubectl,
    request_counter: RequestCounter,
) -> None:
    request_counter.reset()
    with omitting_operator as process:
        status = failed.wait("no message", lambda status: SECRET not in str(status) and status)
        assert status["initContainerStatuses"][0]["state"]["terminated"] == {
            **status["initContainerStatuses"][0]["state"]["terminated"],
            "exitCode": 3,
            "message": "log tails are switched off",
        }
        counts = request_counter.counts_at_rest()
        assert counts["patch initpipelines/status 200"] == 1
        assert counts["delete pods 200"] == 0
        assert SECRET not in process.log.read_text()
    events = kubectl("-n", failed.namespace, "get", "events.events.k8s.io", "-o", "yaml")
    assert events.count(SECRET) == 1, "the event from before; no other event repeats it"
