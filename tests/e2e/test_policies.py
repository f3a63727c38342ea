"""The policies on a real kubelet, each with the operator there when it matters and with it gone.

Pipelines that have nothing to do with each other go through a test side by side, to save time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.conftest import (
    E2EEnv,
    message_of,
    reason_of,
    run_number,
    runs,
    status_of,
)
from tests.e2e.presence import BOTH, Presence
from tests.e2e.templates import container, template, two_steps
from tests.e2e.traces import assert_trace
from tests.operator_process import OperatorProcess
from tests.watching import Object

HANG = "exec sleep 3600"


def uid_of(state: Object) -> str:
    """The Pod's of the current run."""
    return str(state["status"]["run"]["podUID"])


def observed(generation: int) -> Callable[[Object], bool]:
    return lambda state: state.get("status", {}).get("observedGeneration") == generation


def delete_pod(env: E2EEnv, name: str) -> None:
    uid = env.pod(name)["metadata"]["uid"]
    env.delete_pod(name)
    env.wait_gone(name, uid)


def kill_app(env: E2EEnv, node: Cluster, name: str) -> None:
    """The kubelet restarts the app container, and only that."""
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
"""What happens, and the runs that come of it. The pipelines are named by both."""


def named(policy: str, happening: str) -> str:
    return f"{policy.lower()}-{happening}"


@pytest.mark.parametrize("presence", BOTH)
def test_rerun_policy(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, presence: Presence
) -> None:
    for policy, rows in RERUN_POLICIES.items():
        for happening in rows:
            env.create(named(policy, happening), AT_ONCE, rerunPolicy=policy)
    for policy, rows in RERUN_POLICIES.items():
        for happening in rows:
            env.wait_ready(named(policy, happening), run=1)

    with presence(operator):
        for policy in RERUN_POLICIES:
            node.kill_sandbox(env.namespace, named(policy, "sandbox-killed"))
            env.request_run(named(policy, "requested"), "please")
            env.set(named(policy, "edited"), template=two_steps())
            delete_pod(env, named(policy, "pod-deleted"))

    for policy, rows in RERUN_POLICIES.items():
        for happening, expected in rows.items():
            state = env.pipelines.wait(
                named(policy, happening), f"the runs {expected}", has_come_to(expected)
            )
            assert runs(state) == expected, (policy, happening)


@pytest.mark.parametrize("presence", BOTH)
def test_restarts_are_judged_from_then_on(
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
        left_alone = env.pipelines.wait(name, "the change after the restart", observed(2))
        assert runs(left_alone) == [(1, "Created", "")]
        env.set(name, rerunPolicy="OnRestart")
    for name in ("never", "on-pod-loss"):
        not_judged = env.pipelines.wait(name, "the new policy", observed(3))
        assert runs(not_judged) == [(1, "Created", "")]
        node.kill_container(env.namespace, name, "other")

    for name in ("never", "on-pod-loss"):
        again = env.wait_ready(name, run=2)
        assert runs(again) == [RUN_1, (2, "ContainerRestarted", "")]
        assert again["status"]["run"]["cause"]["container"] == "other"


@pytest.mark.parametrize("presence", BOTH)
def test_a_pod_lost_under_never(env: E2EEnv, operator: OperatorProcess, presence: Presence) -> None:
    env.create("demo", AT_ONCE, rerunPolicy="Never")
    env.wait_ready("demo", run=1)
    delete_pod(env, "demo")
    state = env.wait_reason("demo", "PodLost")
    assert message_of(state, "Stalled") == "the Pod was deleted; rerunPolicy is Never"

    with presence(operator):
        env.set("demo", rerunPolicy="OnPodLoss")

    assert runs(env.wait_ready("demo", run=2)) == [(1, "Created", "Lost"), (2, "PodLost", "")]


def has_come_to(expected: list[tuple[int, str, str]]) -> Callable[[Object], bool]:
    """The last run is this one, and has nothing more to do."""
    number, _, result = expected[-1]

    def there(state: Object) -> bool:
        reason = "PodLost" if result else "PodReady"
        return run_number(state) == number and reason_of(state, "Ready") == reason

    return there


@dataclass(frozen=True)
class Limited:
    """A pipeline that exceeds a limit of its runs."""

    template: dict[str, Any]
    told: str
    """The trace until the limit is set."""
    limit: dict[str, Any]
    higher: dict[str, Any]
    why: str
    """The reason and message of the run's end."""
    failed: dict[str, Any]
    """What is sure in the evidence."""
    meanwhile: str = ""
    """What the kubelet may do before the limit is noticed."""

    def is_told(self, state: Object) -> bool:
        said = f"{reason_of(state, 'Ready')}: {message_of(state, 'Ready')}"
        return f"{self.progress} {said}".startswith(self._last_line.removesuffix("..."))

    def trace(self, name: str) -> str:
        return f"""
            run 1 Created
            {self.told}{self.meanwhile}
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
        return self.told.splitlines()[-1].strip()


NOT_IN_TIME = "not initialized within the initDeadlineSeconds of 3 s"
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
        ?0/1 StepRunning: init container 1 of 1 "one" is running; before, it exited with 3...
        0/1 StepFailed: init container 1 of 1 "one" exited with 3, restarted 1 time: no table""",
        limit={"initPolicies": [{"name": "one", "maxRestarts": 1}]},
        higher={"initPolicies": [{"name": "one", "maxRestarts": 5}]},
        why='RestartLimitExceeded: init container 1 of 1 "one" needs more restarts than its '
        "maxRestarts of 1: it exited with 3, restarted ...",
        failed={"name": "one", "exitCode": 3, "reason": "Error", "message": "no table"},
        meanwhile="""
        ?0/1 StepBackOff: init container 1 of 1 "one" exited with 3, restarted 1 time: no table
        ?0/1 StepRunning: init container 1 of 1 "one" is running; before, it exited with 3...
        ?0/1 StepFailed: init container 1 of 1 "one" exited with 3, restarted 2 times: no table""",
    ),
}


@pytest.mark.parametrize("presence", BOTH)
def test_limits_of_a_run(env: E2EEnv, operator: OperatorProcess, presence: Presence) -> None:
    """A run that exceeds one has failed, its Pod goes, and its evidence stays. Whoever raises the
    limit gets another run."""
    for name, row in LIMITS.items():
        env.create(name, row.template)
    for name, row in LIMITS.items():
        env.pipelines.wait(name, row.told, row.is_told)

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
def test_backoff_limit(env: E2EEnv, operator: OperatorProcess, presence: Presence) -> None:
    """Failed runs are followed by others until there were too many. The last one's Pod stays for
    its logs, having ended."""
    broken = template(container("one", "echo no table >&2; exit 3"), restartPolicy="Never")
    env.create("demo", broken)
    env.wait_reason("demo", "StepFailed")
    env.pipelines.wait("demo", "given up", lambda s: status_of(s, "Stalled") == "True")

    with presence(operator):
        env.set("demo", backoffLimit=1)

    last = env.pipelines.wait(
        "demo",
        "given up again",
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
    assert message_of(last, "Stalled") == f"2 runs have failed, and backoffLimit is 1: {failed}"
    pod = env.pod("demo")
    assert (pod["metadata"]["uid"], pod["status"]["phase"]) == (uid_of(last), "Failed")
    assert "deletionTimestamp" not in pod["metadata"]


@pytest.mark.parametrize("presence", BOTH)
def test_suspend(env: E2EEnv, operator: OperatorProcess, presence: Presence) -> None:
    env.create("ready", two_steps())
    env.create("begun", template(container("one", HANG)))
    env.create("asked", two_steps())
    env.create("changed", two_steps())
    env.create("from-the-start", two_steps(), suspend=True)
    uids = {name: uid_of(env.wait_ready(name, run=1)) for name in ("ready", "asked", "changed")}
    uids["begun"] = uid_of(env.wait_reason("begun", "StepRunning"))

    with presence(operator):
        for name in uids:
            env.set(name, suspend=True)
    for name, uid in uids.items():
        env.wait_gone(name, uid)
    with presence(operator):
        env.request_run("asked", "please")
        env.set("changed", template=template(container("one", "true")))
    waiting = env.pipelines.wait(
        "asked", "the request is noticed", lambda s: "please" in message_of(s, "Suspended")
    )
    for state in (waiting, *map(env.pipeline, ("ready", "begun", "changed", "from-the-start"))):
        assert status_of(state, "Suspended") == "True"
        assert reason_of(state, "Ready") == "Suspended"
    with presence(operator):
        for name in (*uids, "from-the-start"):
            env.set(name, suspend=False)

    told = {
        "ready": [(1, "Created", "Initialized"), (2, "Resumed", "")],
        "begun": [(1, "Created", "Superseded"), (2, "Resumed", "")],
        "asked": [(1, "Created", "Initialized"), (2, "Requested", "")],
        "changed": [(1, "Created", "Initialized"), (2, "SpecChanged", "")],
        "from-the-start": [(1, "Resumed", "")],
    }
    for name, expected in told.items():
        run = len(expected)
        done = "StepRunning" if name == "begun" else "PodReady"
        state = env.wait_reason(name, done, run=run)
        assert runs(state) == expected, name
        assert status_of(state, "Suspended") == "", name


@pytest.mark.parametrize("presence", BOTH)
def test_run_history_limit(env: E2EEnv, operator: OperatorProcess, presence: Presence) -> None:
    """What is cut from history is no less past: numbers go on, and a token that was answered acts
    no more."""
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
    """The numbers in history, each time that they changed."""
    told: list[list[int]] = []
    for state in env.pipelines.of(name):
        numbers = [record["number"] for record in state.get("status", {}).get("history", ())]
        if told[-1:] != [numbers]:
            told.append(numbers)
    return told


@pytest.mark.parametrize("presence", BOTH)
def test_ttl_seconds_after_finished(
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


def test_back_off_between_runs(env: E2EEnv, operator: OperatorProcess) -> None:
    """The first re-run comes at once and the second waits, whatever becomes of the operator; but
    not longer than until a person asks."""
    crashing = template(container("one", "true"), app="sleep 1; exit 7")
    failing = template(container("one", "exit 3"), restartPolicy="Never")
    env.create("restarted", crashing)
    env.create("asked", crashing)
    env.create("retried", failing, backoffLimit=9)
    names = ("restarted", "asked", "retried")
    waiting = {name: env.pipelines.wait(name, "back-off", waits) for name in names}
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
        assert times_to_wait_for(env, name) == [due]
        if name == "asked":
            assert state["status"].get("rerunCount", 0) == 0
        else:
            assert state["status"]["run"]["startTime"] >= due
            assert deletion_time(env, name, uid_of(waiting[name])) >= due


def waits(state: Object) -> bool:
    return reason_of(state, "Reconciling") == "RerunBackOff"


def times_to_wait_for(env: E2EEnv, name: str) -> list[str]:
    """Every nextRunTime that was told until the third run."""
    said = (
        s.get("status", {}).get("nextRunTime") for s in env.pipelines.of(name) if run_number(s) < 3
    )
    return sorted({time for time in said if time})


def deletion_time(env: E2EEnv, name: str, uid: str) -> str:
    pod = env.pods.wait(
        name,
        "the Pod of the run before is deleted",
        lambda s: s["metadata"]["uid"] == uid and "deletionTimestamp" in s["metadata"],
    )
    return str(pod["metadata"]["deletionTimestamp"])
