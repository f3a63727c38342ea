"""spec.logTails on a real kubelet: what a step prints is in no object that the operator writes."""

from typing import Any

import pytest

from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.plugin import Call
from tests.templates import container, template

SECRET = "hunter2"
PRINT = "printf 'hunter%d' 2"
"""A command that prints the secret. The command itself, which is in the spec, does not have it."""
FAILS = container("one", f"{PRINT}; exit 3")
WRITES = container("one", f"{PRINT} > /dev/termination-log; exit 3")
NEVER = {"restartPolicy": "Never"}


def written(kubectl: Kubectl, operator: OperatorProcess) -> str:
    """Return everything that the operator has written, except Pods."""
    return kubectl("get", "ipl,events.events.k8s.io", "-o", "yaml") + operator.log.read_text()


def wait_failed(env: E2EEnv, run: int = 1) -> Raw:
    """Wait until this run is in history as failed, and return the state of the pipeline."""
    return env.pipelines.wait(
        "shop",
        f"run {run} has failed",
        lambda state: run in [one["number"] for one in state.get("status", {}).get("history", [])],
    )


@pytest.mark.parametrize("step", [FAILS, WRITES], ids=["log", "termination message"])
def test_output_of_a_failed_step_is_omitted(
    env: E2EEnv, kubectl: Kubectl, operator: OperatorProcess, call: Call, step: dict[str, Any]
) -> None:
    env.create("shop", template(step, **NEVER), logTails="Omit")
    failed = wait_failed(env)
    end = failed["status"]["history"][0]["failedStep"]
    assert (end["exitCode"], end["message"]) == (3, "log tails are switched off")
    assert SECRET not in written(kubectl, operator)
    (first,) = env.pod("shop")["spec"]["initContainers"]
    assert first["terminationMessagePolicy"] == "File"
    for command in ("status", "history", "explain"):
        shown = call(command, "shop").out
        assert SECRET not in shown
        assert "log tails are switched off" in " ".join(shown.split()), command


def test_change_to_omit_removes_what_status_has(
    env: E2EEnv, kubectl: Kubectl, operator: OperatorProcess
) -> None:
    env.create("shop", template(FAILS, **NEVER))
    before = wait_failed(env)
    assert SECRET in str(before["status"])
    uid = env.pod("shop")["metadata"]["uid"]
    env.set("shop", logTails="Omit")
    after = env.pipelines.wait(
        "shop",
        "the change is observed",
        lambda state: state["status"]["observedGeneration"] == state["metadata"]["generation"] > 1,
    )
    assert SECRET not in str(after["status"])
    assert after["status"]["run"]["number"] == 1
    assert env.pod("shop")["metadata"]["uid"] == uid
    (first,) = env.pod("shop")["spec"]["initContainers"]
    assert first["terminationMessagePolicy"] == "FallbackToLogsOnError", "with the next Pod"
    kubectl("annotate", "ipl/shop", "initpipeline.dev/rerun=a")
    wait_failed(env, run=2)
    (first,) = env.pod("shop")["spec"]["initContainers"]
    assert first["terminationMessagePolicy"] == "File"
    assert SECRET not in str(env.pipeline("shop")["status"])
    assert operator.running
