"""The policies on a real kubelet, each with the operator running and with it down.

To save time, a test has several independent pipelines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.presence import BOTH, Presence
from tests.e2e.traces import assert_trace
from tests.operator_process import OperatorProcess
from tests.statuses import backs_off, message_of, reason_of, run_number, runs, status_of
from tests.templates import container, template, two_steps

HANG = "exec sleep 3600"


def uid_of(state: Raw) -> str:
    """Return the UID of the current run's Pod."""
    return str(state["status"]["run"]["podUID"])


def observed(generation: int) -> Callable[[Raw], bool]:
    return lambda state: state.get("status", {}).get("observedGeneration") == generation


def delete_pod(env: E2EEnv, name: str) -> None:
    uid = env.pod(name)["metadata"]["uid"]
    env.delete_pod(name)
    env.wait_gone(name, uid)


def kill_app(env: E2EEnv, node: Cluster, name: str) -> None:
    """Kill the app container. The kubelet restarts only that container."""
    node.kill_container(env.namespace, name, "app")
    env.pods.wait(
        name,
        "the app has restarted",
        lambda pod: (
            any(app["restartCount"] == 1 for app in pod["status"].get("containerStatuses", ()))
            and status_of(pod, "Ready") == "True"
        ),
    )


AT_ONCE = template(container("one", "true"))
RUN_1 = (1, "Created", "Initialized")
EITHER = {
    "sandbox-killed": [RUN_1, (2, "PodRestarted", "")],
    "requested": [RUN_1, (2, "Requested", "")],
    "edited": [RUN_1, (2, "SpecChanged", "")],
}
RERUN_POLICIES = {
    "OnPodLoss": EITHER | {"pod-deleted": [(1, "Created", "Lost"), (2, "PodLost", "")]},
    "Never": EITHER | {"pod-deleted": [(1, "Created", "Lost")]},
}
"""The runs after each kind of change, by rerunPolicy. Policy and change make a pipeline's name."""


def named(policy: str, change: str) -> str:
    return f"{policy.lower()}-{change}"


@pytest.mark.parametrize("presence", BOTH)
def test_rerun_policy_decides_which_changes_start_a_run(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, presence: Presence
) -> None:
    for policy, rows in RERUN_POLICIES.items():
        for change in rows:
            env.create(named(policy, change), AT_ONCE, rerunPolicy=policy)
    for policy, rows in RERUN_POLICIES.items():
        for change in rows:
            env.wait_ready(named(policy, change), run=1)

    with presence(operator):
        for policy in RERUN_POLICIES:
            node.kill_sandbox(env.namespace, named(policy, "sandbox-killed"))
            env.request_run(named(policy, "requested"), "please")
            env.set(named(policy, "edited"), template=two_steps())
            delete_pod(env, named(policy, "pod-deleted"))

    for policy, rows in RERUN_POLICIES.items():
        for change, expected in rows.items():
            state = env.pipelines.wait(
                named(policy, change), f"the runs {expected}", has_reached(expected)
            )
            assert runs(state) == expected, (policy, change)


@pytest.mark.parametrize("presence", BOTH)
def test_rerun_policy_change_applies_to_later_restarts_only(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, presence: Presence
) -> None:
    containers = [container("app", HANG), container("other", HANG)]
    for name, policy in (("never", "Never"), ("on-pod-loss", "OnPodLoss")):
        pod = template(container("one", "true"), containers=containers)
        env.create(name, pod, rerunPolicy=policy)
    for name in ("never", "on-pod-loss"):
        env.wait_ready(name, run=1)

    with presence(operator):
        for name in ("never", "on-pod-loss"):
            kill_app(env, node, name)
            env.set(name, runHistoryLimit=9)
    for name in ("never", "on-pod-loss"):
        unaffected = env.pipelines.wait(name, "the change after the restart", observed(2))
        assert runs(unaffected) == [(1, "Created", "")]
        env.set(name, rerunPolicy="OnRestart")
    for name in ("never", "on-pod-loss"):
        unaffected = env.pipelines.wait(name, "the new policy", observed(3))
        assert runs(unaffected) == [(1, "Created", "")]
        node.kill_container(env.namespace, name, "other")

    for name in ("never", "on-pod-loss"):
        again = env.wait_ready(name, run=2)
        assert runs(again) == [RUN_1, (2, "ContainerRestarted", "")]
        assert again["status"]["run"]["cause"]["container"] == "other"


@pytest.mark.parametrize("presence", BOTH)
def test_pod_lost_under_never_is_recreated_after_the_policy_changes(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    env.create_ready("demo", AT_ONCE, rerunPolicy="Never")
    delete_pod(env, "demo")
    state = env.wait_reason("demo", "PodLost")
    assert message_of(state, "Stalled") == (
        "rerunPolicy is Never, and the Pod was deleted. "
        "To continue: request a run, or set another rerunPolicy"
    )

    with presence(operator):
        env.set("demo", rerunPolicy="OnPodLoss")

    assert runs(env.wait_ready("demo", run=2)) == [(1, "Created", "Lost"), (2, "PodLost", "")]


def has_reached(expected: list[tuple[int, str, str]]) -> Callable[[Raw], bool]:
    """Return a condition: the last of the expected runs is the current one and is settled."""
    number, _, result = expected[-1]

    def reached(state: Raw) -> bool:
        reason = "PodLost" if result else "PodReady"
        return run_number(state) == number and reason_of(state, "Ready") == reason

    return reached


@dataclass(frozen=True)
class Limited:
    """A pipeline whose run exceeds a limit."""

    template: dict[str, Any]
    trace_before: str
    """The trace until the limit is set."""
    limit: dict[str, Any]
    higher: dict[str, Any]
    why: str
    """The reason and message of the run's end."""
    failed: dict[str, Any]
    """Fields of failedStep that are certain."""
    meanwhile: str = ""
    """What the kubelet may report before the operator applies the limit."""

    def reached(self, state: Raw) -> bool:
        ready = f"{reason_of(state, 'Ready')}: {message_of(state, 'Ready')}"
        return f"{self.progress} {ready}".startswith(self._last_line.removesuffix("..."))

    def trace(self, name: str) -> str:
        return f"""
            run 1 Created
            {self.trace_before}{self.meanwhile}
            run 1 ended Failed, {self.why}
            {self.progress} {self.why}
            Stalled BackoffLimitExceeded
            run 2 Retry
            ?0/{self.progress[-1]} PodTerminating: the Pod "{name}" of an earlier...
        """

    @property
    def progress(self) -> str:
        return self._last_line.split()[0]

    @property
    def _last_line(self) -> str:
        return self.trace_before.splitlines()[-1].strip()


NOT_IN_TIME = "not initialized within initDeadlineSeconds (3 s)"
NOWHERE = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. ..."

LIMITS = {
    "hangs": Limited(
        template(container("one", HANG)),
        '0/1 StepRunning: init container 1 of 1 "one" is running',
        limit={"initDeadlineSeconds": 3},
        higher={"initDeadlineSeconds": 3600},
        why=f'InitDeadlineExceeded: {NOT_IN_TIME}: init container 1 of 1 "one" is running',
        failed={"name": "one", "reason": "InitDeadlineExceeded", "restartCount": 0},
    ),
    "has-no-node": Limited(
        template(container("one", "true"), nodeSelector={"no": "where"}),
        f"0/1 PodUnschedulable: {NOWHERE}",
        limit={"initDeadlineSeconds": 3},
        higher={"initDeadlineSeconds": 3600},
        why=f"InitDeadlineExceeded: {NOT_IN_TIME}: {NOWHERE}",
        failed={"name": "one", "reason": "InitDeadlineExceeded", "restartCount": 0},
    ),
    "takes-long": Limited(
        template(container("one", "true"), container("two", HANG)),
        """?0/2 StepRunning: init container 1 of 2 "one" is running
        1/2 StepRunning: init container 2 of 2 "two" is running""",
        limit={"initPolicies": [{"name": "two", "timeoutSeconds": 3}]},
        higher={"initPolicies": [{"name": "two", "timeoutSeconds": 3600}]},
        why='StepTimedOut: init container 2 of 2 "two" was still running after its '
        "timeoutSeconds of 3 s",
        failed={"name": "two", "reason": "StepTimedOut", "restartCount": 0},
    ),
    "fails": Limited(
        template(container("one", "echo no table >&2; exit 3")),
        """?0/1 StepRunning: init container 1 of 1 "one" is running
        ?0/1 StepFailed: init container 1 of 1 "one" exited with 3: no table
        ?0/1 StepRunning: init container 1 of 1 "one" is running; the previous attempt exited ...
        0/1 StepFailed: init container 1 of 1 "one" exited with 3, restarted 1 time: no table""",
        limit={"initPolicies": [{"name": "one", "maxRestarts": 1}]},
        higher={"initPolicies": [{"name": "one", "maxRestarts": 5}]},
        why='RestartLimitExceeded: init container 1 of 1 "one" failed, and its '
        "maxRestarts of 1 allows no further restart: it exited with 3, restarted ...",
        failed={"name": "one", "exitCode": 3, "reason": "Error", "message": "no table"},
        meanwhile="""
        ?0/1 StepBackOff: init container 1 of 1 "one" exited with 3, restarted 1 time: no table
        ?0/1 StepRunning: init container 1 of 1 "one" is running; the previous attempt exited ...
        ?0/1 StepFailed: init container 1 of 1 "one" exited with 3, restarted 2 times: no table""",
    ),
}


@pytest.mark.parametrize("presence", BOTH)
def test_exceeded_limit_fails_the_run_and_a_higher_limit_starts_another(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    """The operator deletes the Pod of the failed run and keeps failedStep in the history."""
    for name, row in LIMITS.items():
        env.create(name, row.template)
    for name, row in LIMITS.items():
        env.pipelines.wait(name, row.trace_before, row.reached)

    with presence(operator):
        for name, row in LIMITS.items():
            env.set(name, **row.limit)
    for name, row in LIMITS.items():
        given_up = env.wait_reason(name, row.why.partition(":")[0])
        assert row.failed.items() <= given_up["status"]["history"][0]["failedStep"].items()
        assert message_of(given_up, "Stalled").startswith("1 run has failed, and backoffLimit is 0")
        env.wait_gone(name, uid_of(given_up))
    with presence(operator):
        for name, row in LIMITS.items():
            env.set(name, **row.higher)

    for name, row in LIMITS.items():
        last = env.pipelines.wait(name, "another run", lambda s: run_number(s) == 2)
        assert_trace(env.pipelines.until(name, last), row.trace(name))


@pytest.mark.parametrize("presence", BOTH)
def test_backoff_limit_allows_that_many_retries(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    """The Pod of the last failed run is kept for its logs."""
    broken = template(container("one", "echo no table >&2; exit 3"), restartPolicy="Never")
    env.create("demo", broken)
    env.wait_reason("demo", "StepFailed")
    env.pipelines.wait("demo", "Stalled", lambda s: status_of(s, "Stalled") == "True")

    with presence(operator):
        env.set("demo", backoffLimit=1)

    last = env.pipelines.wait(
        "demo",
        "Stalled again",
        lambda s: run_number(s) == 2 and status_of(s, "Stalled") == "True",
    )
    failed = 'init container 1 of 1 "one" exited with 3: no table'
    a_run = f"""
        ?0/1 StepRunning: init container 1 of 1 "one" is running
        ?0/1 StepFailed: {failed}"""
    assert_trace(
        env.pipelines.until("demo", last),
        f"""
        run 1 Created{a_run}
        run 1 ended Failed, StepFailed: {failed}
        0/1 StepFailed: {failed}
        Stalled BackoffLimitExceeded
        run 2 Retry
        ?0/1 PodTerminating: the Pod "demo" of an earlier run is being deleted{a_run}
        run 2 ended Failed, StepFailed: {failed}
        0/1 StepFailed: {failed}
        Stalled BackoffLimitExceeded
        """,
    )
    assert message_of(last, "Stalled") == (
        f"2 runs have failed, and backoffLimit is 1: {failed}. "
        "To continue: change the template, request a run, or raise backoffLimit to 2"
    )
    pod = env.pod("demo")
    assert (pod["metadata"]["uid"], pod["status"]["phase"]) == (uid_of(last), "Failed")
    assert "deletionTimestamp" not in pod["metadata"]


@pytest.mark.parametrize("presence", BOTH)
def test_suspend_deletes_the_pod_and_resume_starts_a_run(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    env.create("ready", two_steps())
    env.create("started", template(container("one", HANG)))
    env.create("asked", two_steps())
    env.create("changed", two_steps())
    env.create("from-the-start", two_steps(), suspend=True)
    uids = {name: uid_of(env.wait_ready(name, run=1)) for name in ("ready", "asked", "changed")}
    uids["started"] = uid_of(env.wait_reason("started", "StepRunning"))

    with presence(operator):
        for name in uids:
            env.set(name, suspend=True)
    for name, uid in uids.items():
        env.wait_gone(name, uid)
    with presence(operator):
        env.request_run("asked", "please")
        env.set("changed", template=template(container("one", "true")))
    waiting = env.pipelines.wait(
        "asked", "the request is observed", lambda s: "please" in message_of(s, "Suspended")
    )
    for state in (waiting, *map(env.pipeline, ("ready", "started", "changed", "from-the-start"))):
        assert status_of(state, "Suspended") == "True"
        assert reason_of(state, "Ready") == "Suspended"
    with presence(operator):
        for name in (*uids, "from-the-start"):
            env.set(name, suspend=False)

    expected_runs = {
        "ready": [(1, "Created", "Initialized"), (2, "Resumed", "")],
        "started": [(1, "Created", "Superseded"), (2, "Resumed", "")],
        "asked": [(1, "Created", "Initialized"), (2, "Requested", "")],
        "changed": [(1, "Created", "Initialized"), (2, "SpecChanged", "")],
        "from-the-start": [(1, "Resumed", "")],
    }
    for name, expected in expected_runs.items():
        run = len(expected)
        done = "StepRunning" if name == "started" else "PodReady"
        state = env.wait_reason(name, done, run=run)
        assert runs(state) == expected, name
        assert status_of(state, "Suspended") == "", name


@pytest.mark.parametrize("presence", BOTH)
def test_run_history_limit_keeps_run_numbers_and_the_last_token(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    """Runs that are removed from history still count: the next run has the next number, and the
    last token starts no other run."""
    quick = template(container("one", "true"))
    env.create("none", quick, runHistoryLimit=0)
    env.create("few", quick, runHistoryLimit=2)
    for run in (1, 2, 3):
        for name in ("none", "few"):
            if run > 1:
                env.request_run(name, f"token-{run}")
        for name in ("none", "few"):
            env.wait_ready(name, run)

    with presence(operator):
        env.set("few", runHistoryLimit=1)
        env.patch("none", {"metadata": {"annotations": {"initpipeline.dev/rerun": None}}})
        env.request_run("none", "token-3")
    env.pipelines.wait("few", "history is cut", observed(2))
    for name in ("none", "few"):
        env.request_run(name, "token-4")
        env.wait_ready(name, run=4)

    assert histories(env, "none") == [[]]
    assert histories(env, "few") == [[], [1], [2, 1], [2], [3]]
    assert env.pipeline("none")["status"]["run"]["token"] == "token-4"


def histories(env: E2EEnv, name: str) -> list[list[int]]:
    """Return the run numbers in history, after each change."""
    histories: list[list[int]] = []
    for state in env.pipelines.of(name):
        numbers = [record["number"] for record in state.get("status", {}).get("history", ())]
        if histories[-1:] != [numbers]:
            histories.append(numbers)
    return histories


@pytest.mark.parametrize("presence", BOTH)
def test_ttl_seconds_after_finished_deletes_ended_pipelines(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    one, job = container("one", "true"), {"app": "true", "restartPolicy": "Never"}
    broken = template(container("one", "exit 3"), restartPolicy="Never")
    env.create("from-the-start", template(one, **job), ttlSecondsAfterFinished=1)
    env.create("succeeded", template(one, **job))
    env.create("given-up", broken)
    env.create("runs-on", template(one), ttlSecondsAfterFinished=0)
    env.wait_reason("succeeded", "PodSucceeded")
    env.wait_reason("given-up", "StepFailed")
    env.wait_ready("runs-on", run=1)

    with presence(operator):
        for name in ("succeeded", "given-up"):
            env.set(name, ttlSecondsAfterFinished=1)

    ends = {"from-the-start": "Succeeded", "succeeded": "Succeeded", "given-up": "Failed"}
    for name, result in ends.items():
        last = env.pipelines.wait(name, "its deletion", lambda s: s["event"] == "DELETED")
        assert runs(last) == [(1, "Created", result)], name
        env.wait_gone(name, uid_of(last))
    assert status_of(env.pipeline("runs-on"), "Ready") == "True"


def test_back_off_survives_the_operator_and_ends_with_a_request(
    env: E2EEnv, operator: OperatorProcess
) -> None:
    """The first re-run starts immediately, the second after the back-off or a user's request."""
    crashing = template(container("one", "true"), app="sleep 1; exit 7")
    failing = template(container("one", "exit 3"), restartPolicy="Never")
    env.create("restarted", crashing)
    env.create("asked", crashing)
    env.create("retried", failing, backoffLimit=9)
    names = ("restarted", "asked", "retried")
    waiting = {name: env.pipelines.wait(name, "back-off", backs_off) for name in names}
    for state in waiting.values():
        assert run_number(state) == 2
        assert status_of(state, "Stalled") == ""

    operator.kill()
    operator.start()
    env.request_run("asked", "please")
    operator.kill()
    operator.start()

    triggers = {"asked": "Requested", "restarted": "ContainerRestarted", "retried": "Retry"}
    for name, trigger in triggers.items():
        state = env.pipelines.wait(name, "the third run", lambda s: run_number(s) == 3)
        assert state["status"]["run"]["trigger"] == trigger
        due = waiting[name]["status"]["nextRunTime"]
        assert next_run_times(env, name) == [due]
        if name == "asked":
            assert state["status"].get("rerunCount", 0) == 0
        else:
            assert state["status"]["run"]["startTime"] >= due
            assert deletion_time(env, name, uid_of(waiting[name])) >= due


def next_run_times(env: E2EEnv, name: str) -> list[str]:
    """Return the different values of nextRunTime before the third run."""
    times = (
        s.get("status", {}).get("nextRunTime") for s in env.pipelines.of(name) if run_number(s) < 3
    )
    return sorted({time for time in times if time})


def deletion_time(env: E2EEnv, name: str, uid: str) -> str:
    pod = env.pods.wait(
        name,
        "the Pod of the previous run is terminating",
        lambda s: s["metadata"]["uid"] == uid and "deletionTimestamp" in s["metadata"],
    )
    return str(pod["metadata"]["deletionTimestamp"])
