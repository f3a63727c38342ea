"""Reason and message of each state of a Pod, as users read them."""

import pytest

from initpipeline.api.models import Run
from initpipeline.api.reasons import Reason, Trigger
from initpipeline.core import explanations
from initpipeline.core.observation import observe
from tests.builders import (
    NEVER,
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    pod,
    running_pod,
)
from tests.unit.core.samples import RESTARTING_ALL, four_steps

RUN = Run(number=1, trigger=Trigger.CREATED, pod_uid="pod-1", start_time=at(0))

NO_NODE = "0/3 nodes are available: 3 Insufficient cpu."


@pytest.mark.parametrize(
    ("observed", "reason", "message"),
    [
        pytest.param(
            fresh_pod().node(None).condition("PodScheduled", "False", "Unschedulable", NO_NODE),
            Reason.POD_UNSCHEDULABLE,
            NO_NODE,
            id="no node fits",
        ),
        pytest.param(
            fresh_pod().node(None).condition("PodScheduled", "False", "SchedulingGated", "gated"),
            Reason.POD_PENDING,
            "gated",
            id="scheduling is gated",
        ),
        pytest.param(
            fresh_pod().node(None).condition("PodScheduled", "False", "Unschedulable"),
            Reason.POD_UNSCHEDULABLE,
            "the Pod has not been scheduled yet",
            id="no node fits, and the scheduler gives no details",
        ),
        pytest.param(
            pod().node(None).init("one", reported=False),
            Reason.POD_PENDING,
            "the Pod has not been scheduled yet",
            id="the scheduler has not reported",
        ),
        pytest.param(
            fresh_pod(),
            Reason.STEP_PENDING,
            'init container 1 of 2 "one" has not started yet: '
            "the Pod's volumes or network, or the image, are not ready",
            id="volumes and network are made ready",
        ),
        pytest.param(
            fresh_pod().init("one", reported=False),
            Reason.STEP_PENDING,
            'init container 1 of 2 "one" has not started yet: '
            "the Pod's volumes or network, or the image, are not ready",
            id="the kubelet has not reported it",
        ),
        pytest.param(
            fresh_pod().sidecar("one"),
            Reason.STEP_PENDING,
            'sidecar 1 of 2 "one" has not started yet: '
            "the Pod's volumes or network, or the image, are not ready",
            id="a sidecar has not started",
        ),
        pytest.param(
            four_steps().init("migrate", waiting="ErrImagePull", message="pull of x: not found"),
            Reason.IMAGE_PULL_FAILED,
            'init container 2 of 4 "migrate": pull of x: not found',
            id="image cannot be pulled",
        ),
        pytest.param(
            four_steps().init("migrate", waiting="ImagePullBackOff"),
            Reason.IMAGE_PULL_FAILED,
            'init container 2 of 4 "migrate": ImagePullBackOff',
            id="image cannot be pulled, and the kubelet gives no details",
        ),
        pytest.param(
            four_steps().init("migrate", waiting="InvalidImageName", message="couldn't parse"),
            Reason.IMAGE_PULL_FAILED,
            'init container 2 of 4 "migrate": couldn\'t parse',
            id="image name is invalid",
        ),
        pytest.param(
            four_steps().init(
                "migrate", waiting="CreateContainerConfigError", message='secret "db" not found'
            ),
            Reason.CONTAINER_CONFIG_ERROR,
            'init container 2 of 4 "migrate": secret "db" not found',
            id="a Secret is missing",
        ),
        pytest.param(
            four_steps().init(
                "migrate",
                waiting="ImagePullBackOff",
                message="back-off",
                restarts=1,
                last=End(1),
            ),
            Reason.IMAGE_PULL_FAILED,
            'init container 2 of 4 "migrate": back-off',
            id="image is gone before the second attempt",
        ),
        pytest.param(
            four_steps().init("migrate", running=True),
            Reason.STEP_RUNNING,
            'init container 2 of 4 "migrate" is running',
            id="runs",
        ),
        pytest.param(
            four_steps().init(
                "migrate", running=True, restarts=2, last=End(1, message="no database")
            ),
            Reason.STEP_RUNNING,
            'init container 2 of 4 "migrate" is running; the previous attempt exited with 1, '
            "restarted 2 times: no database",
            id="runs again after failures",
        ),
        pytest.param(
            four_steps().init("migrate", running=True, restarts=4, last=RESTARTING_ALL),
            Reason.STEP_RUNNING,
            'init container 2 of 4 "migrate" is running',
            id="runs again in place: not a failure",
        ),
        pytest.param(
            fresh_pod().sidecar("one", running=True, started=False, startup_probe=True),
            Reason.STEP_RUNNING,
            'sidecar 1 of 2 "one" is running, but its startupProbe has not succeeded yet',
            id="a sidecar whose startup probe has not succeeded yet",
        ),
        pytest.param(
            fresh_pod().sidecar("one", running=True, started=False),
            Reason.STEP_RUNNING,
            'sidecar 1 of 2 "one" is running',
            id="a sidecar that the kubelet has not reported as started",
        ),
        pytest.param(
            four_steps().init("migrate", exit=1, message="no database\n"),
            Reason.STEP_FAILED,
            'init container 2 of 4 "migrate" exited with 1: no database',
            id="failed",
        ),
        pytest.param(
            four_steps().init(
                "migrate",
                waiting="RunContainerError",
                message="no such file",
                restarts=1,
                last=End(128, NEVER, reason="StartError", message="no such file"),
            ),
            Reason.STEP_FAILED,
            'init container 2 of 4 "migrate" could not be started, restarted 1 time: no such file',
            id="its command is not in its image",
        ),
        pytest.param(
            four_steps().init("migrate", waiting="RunContainerError", message="runtime is gone"),
            Reason.CONTAINER_CONFIG_ERROR,
            'init container 2 of 4 "migrate": runtime is gone',
            id="it cannot be started, and the kubelet reports no termination",
        ),
        pytest.param(
            fresh_pod().init("one", exit=0).init("two"),
            Reason.STEP_PENDING,
            'init container 2 of 2 "two" has not started yet',
            id="between two steps",
        ),
        pytest.param(
            four_steps().init("migrate", exit=1, restarts=1, message="no database"),
            Reason.STEP_FAILED,
            'init container 2 of 4 "migrate" exited with 1, restarted 1 time: no database',
            id="failed twice",
        ),
        pytest.param(
            four_steps().init("migrate", exit=137, reason="OOMKilled"),
            Reason.STEP_FAILED,
            'init container 2 of 4 "migrate" exited with 137 (OOMKilled)',
            id="out of memory",
        ),
        pytest.param(
            four_steps().init(
                "migrate", waiting="CrashLoopBackOff", restarts=3, last=End(1, message="oh")
            ),
            Reason.STEP_BACK_OFF,
            'init container 2 of 4 "migrate" exited with 1, restarted 3 times: oh',
            id="waits to be retried",
        ),
        pytest.param(
            four_steps().init("migrate", waiting="CrashLoopBackOff", last=End(143, signal=15)),
            Reason.STEP_BACK_OFF,
            'init container 2 of 4 "migrate" was terminated by signal 15',
            id="ended by a signal",
        ),
        pytest.param(
            four_steps().init("migrate", waiting="RestartingAllContainers", restarts=4),
            Reason.STEP_PENDING,
            'init container 2 of 4 "migrate" is waiting to run again',
            id="is about to be restarted with all others",
        ),
        pytest.param(
            four_steps().init(
                "migrate", waiting="PodInitializing", restarts=4, last=RESTARTING_ALL, id=""
            ),
            Reason.STEP_PENDING,
            'init container 2 of 4 "migrate" is waiting to run again',
            id="waits for its turn after a restart in place",
        ),
        pytest.param(
            pod().init("a", exit=0, start=50, restarts=1).init("b", exit=0),
            Reason.STEP_PENDING,
            'init container 2 of 2 "b" is waiting to run again',
            id="its old success is still shown after a restart of the sandbox",
        ),
        pytest.param(
            fresh_pod().init("one", running=True).deleting(),
            Reason.POD_TERMINATING,
            "the Pod is being deleted",
            id="being deleted",
        ),
        pytest.param(
            fresh_pod()
            .init("one", exit=137)
            .phase("Failed", "Evicted", "The node was low on resource: memory.")
            .condition("DisruptionTarget"),
            Reason.POD_LOST,
            "the Pod was lost: The node was low on resource: memory.",
            id="evicted",
        ),
        pytest.param(
            fresh_pod().init("one", exit=1, message="oh").restarts("Never").phase("Failed"),
            Reason.STEP_FAILED,
            'init container 1 of 2 "one" exited with 1: oh',
            id="the Pod failed at a step (restartPolicy Never)",
        ),
        pytest.param(
            fresh_pod()
            .init("one", running=True)
            .phase("Failed", "DeadlineExceeded", "Pod was active on the node longer than allowed"),
            Reason.POD_DEADLINE_EXCEEDED,
            "DeadlineExceeded: Pod was active on the node longer than allowed",
            id="the Pod failed while a step ran (activeDeadlineSeconds)",
        ),
        pytest.param(
            fresh_pod()
            .init("one", exit=0)
            .phase("Failed", "DeadlineExceeded", "Pod was active on the node longer than allowed"),
            Reason.POD_DEADLINE_EXCEEDED,
            "DeadlineExceeded: Pod was active on the node longer than allowed",
            id="the Pod failed between two steps",
        ),
        pytest.param(
            fresh_pod().init("one", running=True).phase("Failed", "DeadlineExceeded"),
            Reason.POD_DEADLINE_EXCEEDED,
            "DeadlineExceeded: a limit of the Pod was exceeded",
            id="the Pod failed while a step ran, and the kubelet gives no details",
        ),
        pytest.param(
            pod()
            .init("a", exit=0, start=50, restarts=1)
            .init("b", exit=0)
            .app(exit=1)
            .restarts("Never")
            .phase("Failed"),
            Reason.POD_FAILED,
            "the Pod failed",
            id="the Pod failed, and the old success of its step is still shown",
        ),
        pytest.param(
            pod().app(exit=1, message="oh"),
            Reason.CONTAINER_FAILED,
            'container "app" exited with 1: oh',
            id="a user created the Pod, without init containers",
        ),
    ],
)
def test_why_a_run_is_not_initialized(observed: PodBuilder, reason: Reason, message: str) -> None:
    built = observed.build()
    why = explanations.initialization(observe(built, RUN))
    assert (why.reason, why.message) == (reason, message)


@pytest.mark.parametrize(
    ("observed", "reason", "message"),
    [
        pytest.param(running_pod(), Reason.POD_READY, "the Pod is Ready", id="ready"),
        pytest.param(
            running_pod().ready(False),
            Reason.CONTAINERS_NOT_READY,
            "the Pod is not Ready, and the API server gives no reason",
            id="not ready, and the kubelet gives no reason",
        ),
        pytest.param(
            running_pod().condition(
                "Ready", "False", "ContainersNotReady", "containers with unready status: [app]"
            ),
            Reason.CONTAINERS_NOT_READY,
            "containers with unready status: [app]",
            id="not ready",
        ),
        pytest.param(
            running_pod().ready(False).condition("ContainersReady"),
            Reason.NODE_NOT_READY,
            "the node lifecycle controller set Ready to False, because node "
            '"node-1" has stopped reporting; its containers were Ready when the kubelet last '
            "reported them",
            id="the node does not report",
        ),
        pytest.param(
            running_pod().app(running=True).app("web").app("log").ready(False),
            Reason.CONTAINERS_NOT_READY,
            'app containers are not ready: "web", "log"',
            id="two of three app containers have not started",
        ),
        pytest.param(
            running_pod().app(exit=0).condition("Ready", "False", "PodCompleted"),
            Reason.CONTAINERS_NOT_READY,
            "app containers have terminated",
            id="all containers have ended well, and the Pod has yet to be called Succeeded",
        ),
        pytest.param(
            running_pod().app(waiting="ErrImagePull", message="not found").ready(False),
            Reason.IMAGE_PULL_FAILED,
            'container "app": not found',
            id="image of an app container",
        ),
        pytest.param(
            running_pod().app(waiting="CreateContainerError", message="no such file").ready(False),
            Reason.CONTAINER_CONFIG_ERROR,
            'container "app": no such file',
            id="an app container cannot be created",
        ),
        pytest.param(
            running_pod().app(exit=1, message="oh").ready(False),
            Reason.CONTAINER_FAILED,
            'container "app" exited with 1: oh',
            id="an app container failed",
        ),
        pytest.param(
            running_pod()
            .app(waiting="CrashLoopBackOff", restarts=2, last=End(3, message="oh"))
            .ready(False),
            Reason.CONTAINER_FAILED,
            'container "app" exited with 3, restarted 2 times: oh',
            id="an app container waits to be restarted",
        ),
        pytest.param(
            running_pod()
            .app(
                waiting="RunContainerError",
                last=End(128, NEVER, reason="StartError", message="no such file"),
            )
            .ready(False),
            Reason.CONTAINER_FAILED,
            'container "app" could not be started: no such file',
            id="the command of an app container is not in its image",
        ),
        pytest.param(
            running_pod()
            .sidecar("one", waiting="CrashLoopBackOff", restarts=2, last=End(1, message="oh"))
            .ready(False),
            Reason.CONTAINER_FAILED,
            'sidecar "one" exited with 1, restarted 2 times: oh',
            id="a sidecar waits to be restarted",
        ),
        pytest.param(
            running_pod().sidecar("one", exit=1).app(exit=2).ready(False),
            Reason.CONTAINER_FAILED,
            'container "app" exited with 2',
            id="an app container failed, and with it a sidecar",
        ),
        pytest.param(
            running_pod().sidecar("one", exit=137).app(exit=0).ready(False),
            Reason.CONTAINERS_NOT_READY,
            'app containers are not ready: "app"',
            id="a sidecar was ended after the last app container",
        ),
        pytest.param(
            running_pod()
            .sidecar("one", exit=137)
            .app(exit=0)
            .phase("Failed", "DeadlineExceeded", "active too long"),
            Reason.POD_DEADLINE_EXCEEDED,
            "DeadlineExceeded: active too long",
            id="a sidecar was ended with the Pod",
        ),
        pytest.param(
            running_pod().app(exit=137).phase("Failed", "DeadlineExceeded", "active too long"),
            Reason.POD_DEADLINE_EXCEEDED,
            "DeadlineExceeded: active too long",
            id="an app container was ended with the Pod",
        ),
        pytest.param(
            running_pod().app(running=True, restarts=1, last=End(3)).ready(False),
            Reason.CONTAINERS_NOT_READY,
            "the Pod is not Ready, and the API server gives no reason",
            id="an app container runs again",
        ),
        pytest.param(
            running_pod().app(waiting="PodInitializing", restarts=4, last=RESTARTING_ALL, id=""),
            Reason.POD_READY,
            "the Pod is Ready",
            id="the Ready condition of the Pod decides",
        ),
        pytest.param(
            running_pod()
            .app(waiting="PodInitializing", restarts=4, last=RESTARTING_ALL, id="")
            .ready(False),
            Reason.CONTAINERS_NOT_READY,
            'app containers are not ready: "app"',
            id="an app container restarted in place has not failed",
        ),
        pytest.param(
            completed_pod(),
            Reason.POD_SUCCEEDED,
            "all containers of the Pod succeeded",
            id="succeeded",
        ),
        pytest.param(
            running_pod().app(exit=2).restarts("Never").phase("Failed"),
            Reason.CONTAINER_FAILED,
            'container "app" exited with 2',
            id="the Pod failed",
        ),
        pytest.param(
            running_pod().phase("Failed", "DeadlineExceeded", "active too long"),
            Reason.POD_DEADLINE_EXCEEDED,
            "DeadlineExceeded: active too long",
            id="the Pod failed, and no container reports why",
        ),
        pytest.param(
            running_pod().deleting(),
            Reason.POD_TERMINATING,
            "the Pod is being deleted",
            id="being deleted",
        ),
        pytest.param(
            running_pod()
            .phase("Failed")
            .condition(
                "DisruptionTarget", "True", "PreemptionByScheduler", "preempted by a Pod more dear"
            ),
            Reason.POD_LOST,
            "the Pod was lost: preempted by a Pod more dear",
            id="preempted",
        ),
    ],
)
def test_why_an_initialized_pod_is_ready_or_not(
    observed: PodBuilder, reason: Reason, message: str
) -> None:
    built = observed.build()
    why = explanations.readiness(observe(built, RUN))
    assert (why.reason, why.message) == (reason, message)


def test_initialized_pod_with_a_crashed_sidecar_and_app_has_the_end_of_the_app() -> None:
    crashed = pod().sidecar("log", exit=1).app(waiting="CrashLoopBackOff", last=End(1))
    observation = observe(crashed.build(), RUN)
    before, after = (explanations.why(observation, initialized=done) for done in (False, True))
    assert (before.reason, after.reason) == (Reason.STEP_FAILED, Reason.CONTAINER_FAILED)


PREEMPTED = ("DisruptionTarget", "True", "PreemptionByScheduler", "preempted by a Pod more dear")
NOT_TERMINATED = (
    "the Pod is still there long after its grace period: "
    'the kubelet of node "node-1" has not confirmed that its containers have terminated. If the '
    'node is up, check its kubelet. Only if the node is down for good, run "kubectl taint node '
    'node-1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute", or delete the Pod with '
    "--grace-period=0 --force"
)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        pytest.param(None, "the Pod was deleted", id="it does not exist"),
        pytest.param(
            running_pod().phase("Failed"),
            "the Pod was lost: no reason given",
            id="no reason is reported",
        ),
        pytest.param(
            completed_pod(),
            "the Pod was lost: its phase became Succeeded before all containers had completed",
            id="its containers ended well",
        ),
        pytest.param(
            completed_pod().condition(*PREEMPTED),
            "the Pod was lost: preempted by a Pod more dear",
            id="its containers ended well, and a disruption is reported",
        ),
        pytest.param(
            running_pod().phase("Failed").condition(*PREEMPTED[:3]),
            "the Pod was lost: PreemptionByScheduler",
            id="the disruption has no message",
        ),
        pytest.param(
            running_pod().phase("Failed", "NodeLost"),
            "the Pod was lost: NodeLost",
            id="only the Pod has a reason",
        ),
    ],
)
def test_lost_pod_has_the_message_of_who_ended_it(
    observed: PodBuilder | None, message: str
) -> None:
    why = explanations.lost(None if observed is None else observed.build())
    assert (why.reason, why.message) == (Reason.POD_LOST, message)


def test_pod_that_was_lost_again_may_have_exceeded_its_own_limit() -> None:
    why = explanations.lost_again(completed_pod().build())
    assert why.reason is Reason.POD_FAILED
    assert why.message == (
        "the Pod was lost: its phase became Succeeded before all containers had completed. No "
        "disruption is reported, and the previous run was also lost, so the Pod may have exceeded "
        "a limit of its own spec. Check its events"
    )


def test_terminating_pod_has_the_message_of_the_disruption() -> None:
    why = explanations.terminating(running_pod().deleting().condition(*PREEMPTED).build())
    assert why.reason is Reason.POD_TERMINATING
    assert why.message == "the Pod is being deleted: preempted by a Pod more dear"


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        pytest.param(
            running_pod().held_by("example.com/backup", "example.com/audit"),
            "the Pod is being deleted, but is blocked by its finalizers "
            "example.com/backup, example.com/audit: check the controllers that remove them",
            id="finalizers",
        ),
        pytest.param(
            fresh_pod().node(None),
            "the Pod is still there long after its grace period: "
            "delete it with --grace-period=0 --force",
            id="never on a node",
        ),
        pytest.param(running_pod(), NOT_TERMINATED, id="on a node"),
    ],
)
def test_stuck_pod_has_a_remedy(observed: PodBuilder, message: str) -> None:
    why = explanations.stuck(observed.deleting().build())
    assert (why.reason, why.message) == (Reason.POD_TERMINATING, message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("  short\n", "short", id="trimmed"),
        pytest.param("x" * 1024, "x" * 1024, id="just fits"),
        pytest.param("x" * 1025, "x" * 1020 + " ...", id="cut, and marked"),
        pytest.param("ä" * 600, "ä" * 510 + " ...", id="counted in bytes"),
        pytest.param("x" + "ä" * 600, "x" + "ä" * 509 + " ...", id="no character is cut in two"),
    ],
)
def test_message_is_clipped_to_1_kib(text: str, expected: str) -> None:
    assert explanations.Explanation(Reason.STEP_FAILED, text).message == expected
