"""The rate of the runs that users start, on a real API server.

The Pods have no node, so the API server removes a deleted one at once.
"""

import itertools
import time
from copy import deepcopy

import pytest

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core.triggers import USER_RUNS
from tests.builders import NAME, pipeline
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.plugin import run_plugin
from tests.poll import poll_until
from tests.statuses import reason_of

pytest_plugins = ["tests.contract.operator_fixtures"]

CHANGES = 20
"""Further changes while a run waits."""
INTERVAL = USER_RUNS.interval.total_seconds()


def template(number: int) -> Raw:
    changed = deepcopy(pipeline().template)
    changed["spec"]["containers"][0]["image"] = f"nginx:{number}"
    return changed


def image(env: ContractEnv) -> str:
    """Returns the image of the Pod's app container. "": there is no Pod."""
    pod = env.pod()
    return str(pod["spec"]["containers"][0]["image"]) if pod else ""


@pytest.mark.usefixtures("shared_operator")
def test_template_that_changes_all_the_time_starts_a_few_runs_and_the_last_one_is_served(
    env: ContractEnv, shared_request_counter: RequestCounter
) -> None:
    env.create()
    env.wait_for_pod(1)
    shared_request_counter.reset()
    begin, numbers = time.monotonic(), itertools.count(1)

    def delayed() -> bool:
        env.patch({"spec": {"template": template(next(numbers))}})
        return reason_of({"status": env.status()}, "Reconciling") == "RateLimited"

    poll_until(delayed, TIMEOUT_SECONDS, "the next run waits", state=env.status)
    for _ in range(CHANGES):
        env.patch({"spec": {"template": template(next(numbers))}})
    newest = f"nginx:{next(numbers) - 1}"
    poll_until(lambda: image(env) == newest, 3 * INTERVAL, newest, state=env.status)
    env.wait("no run waits", lambda s: "nextRunTime" not in s)
    most = USER_RUNS.burst + 1 + (time.monotonic() - begin) // INTERVAL
    counts = shared_request_counter.counts()
    assert 0 < counts["create pods 201"] <= most, counts
    generation = (env.pipeline() or {})["metadata"]["generation"]
    env.wait("the newest spec is observed", lambda s: s["observedGeneration"] == generation)


@pytest.mark.usefixtures("shared_operator")
def test_rerun_with_wait_shows_until_when_the_run_is_delayed(
    env: ContractEnv,
    control_plane: Cluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    env.create()
    env.wait_for_pod(1)
    for number in range(1, USER_RUNS.burst + 1):
        env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: f"token-{number}"}}})
        env.wait_for_pod(number + 1)
    result = run_plugin(capsys, "rerun", NAME, "--wait", "--timeout", "2s", "-n", env.namespace)
    assert result.code == 124
    assert "the next run (Requested) is delayed until 20" in result.err
    requested = (env.pipeline() or {})["metadata"]["annotations"][names.RERUN_ANNOTATION]
    env.wait_for_pod(USER_RUNS.burst + 2)
    assert env.status()["run"]["token"] == requested, "the request is not lost"
