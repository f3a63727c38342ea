"""What is recorded: a Pod, and what happens to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from tests.cluster.cluster import Cluster
from tests.traces.recorder import Raw, Recorder

IMAGE = "busybox:1.36"
POD = "demo"
OBEDIENT = "trap 'exit 3' TERM; while true; do sleep 0.1; done"
"""Runs until it is told to end, and then ends with 3."""


@dataclass(frozen=True)
class Stage:
    """The Pod's namespace, the node, and what is told of the Pod."""

    cluster: Cluster
    api: client.ApiClient
    namespace: str
    recorder: Recorder

    def wait(self, what: str, condition: Callable[[Raw], bool]) -> Raw:
        return self.recorder.wait(what, condition)

    def delete(self) -> None:
        """Delete the Pod with its own grace period, and see it go."""
        client.CoreV1Api(self.api).delete_namespaced_pod(POD, self.namespace)
        self.gone()

    def evict(self) -> None:
        """Ask the API server for the Pod's eviction, as a drain of its node does."""
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=POD))
        client.CoreV1Api(self.api).create_namespaced_pod_eviction(POD, self.namespace, eviction)
        self.gone()

    def gone(self) -> None:
        self.recorder.wait_gone()

    def reboot_node(self) -> None:
        self.cluster.reboot_node()

    def kill_sandbox(self) -> None:
        self.cluster.kill_sandbox(self.namespace, POD)

    def kill(self, container: str) -> None:
        self.cluster.kill_container(self.namespace, POD, container)


@dataclass(frozen=True)
class Scenario:
    """A Pod's spec, and what happens to it."""

    spec: Raw
    play: Callable[[Stage], object]


def container(name: str, script: str = "sleep 0.5", **more: Any) -> Raw:
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def sidecar(name: str, script: str = "exec sleep 3600", **more: Any) -> Raw:
    return container(name, script, restartPolicy="Always", **more)


def spec(*init: Raw, app: Raw | None = None, **more: Any) -> Raw:
    """A Pod's spec, with an empty volume in all containers: /run/pod outlives their restarts."""
    mount = {"volumeMounts": [{"name": "memory", "mountPath": "/run/pod"}]}
    app = app or container("app", "exec sleep 3600")
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "initContainers": [{**one, **mount} for one in init],
        "containers": [{**app, **mount}],
        "volumes": [{"name": "memory", "emptyDir": {}}],
        **more,
    }


def fails(times: int, code: int = 1, then: str = "true") -> str:
    """A script that fails so many times and then goes on. Counts in a file of the Pod's volume."""
    file = "/run/pod/attempts"
    count = f"echo >>{file}; sleep 0.5"
    return f"{count}; [ $(wc -l <{file}) -gt {times} ] || {{ echo sorry; exit {code}; }}; {then}"


def status_of(state: Raw, name: str) -> Mapping[str, Any]:
    """A container's status; empty while the kubelet has said nothing of it."""
    status = state.get("status", {})
    every = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    return next((one for one in every if one["name"] == name), {})


def runs(name: str, restarts: int = 0) -> Callable[[Raw], bool]:
    def condition(state: Raw) -> bool:
        status = status_of(state, name)
        return "running" in status.get("state", {}) and restarts <= int(status["restartCount"])

    return condition


def is_ready(restarts: int = 0) -> Callable[[Raw], bool]:
    """The Pod is Ready, and its app container has been restarted that often."""

    def condition(state: Raw) -> bool:
        said = {c["type"]: c["status"] for c in state["status"].get("conditions", ())}
        return said.get("Ready") == "True" and status_of(state, "app")["restartCount"] >= restarts

    return condition


def phase(wanted: str) -> Callable[[Raw], bool]:
    return lambda state: state["status"].get("phase") == wanted


def waits(name: str, reason: str) -> Callable[[Raw], bool]:
    def condition(state: Raw) -> bool:
        status = status_of(state, name)
        waiting = status.get("state", {}).get("waiting", {})
        return bool(waiting.get("reason") == reason)

    return condition


ONE, TWO = container("one"), container("two")
RESTART_ALL = {
    "restartPolicyRules": [
        {
            "action": "RestartAllContainers",
            "exitCodes": {"operator": "NotIn", "values": []},
        }
    ],
    "restartPolicy": "Always",
}


def sandbox_killed(stage: Stage) -> None:
    stage.wait("it is Ready", is_ready())
    stage.kill_sandbox()
    stage.wait("it is Ready again", is_ready(restarts=1))


def sandbox_killed_for_good(stage: Stage) -> None:
    stage.wait("it is Ready", is_ready())
    stage.kill_sandbox()
    stage.wait("it fails", phase("Failed"))


def sandbox_killed_mid_init(stage: Stage) -> None:
    stage.wait("the second step runs", runs("two"))
    stage.kill_sandbox()
    stage.wait("it is Ready", is_ready())


def node_rebooted(stage: Stage) -> None:
    stage.wait("it is Ready", is_ready())
    stage.reboot_node()
    stage.wait("it is Ready again", is_ready(restarts=1))


def node_rebooted_mid_init(stage: Stage) -> None:
    stage.wait("the second step runs", runs("two"))
    stage.reboot_node()
    stage.wait("it is Ready", is_ready())


def sidecars_crash(stage: Stage) -> None:
    stage.wait("the second step runs", runs("two"))
    stage.kill("early")
    stage.wait("the first sidecar runs again", runs("early", restarts=1))
    stage.wait("it is Ready", is_ready())
    stage.kill("late")
    stage.wait("the last sidecar runs again", runs("late", restarts=1))


def deleted_mid_init(stage: Stage) -> None:
    stage.wait("the second step runs", runs("two"))
    stage.delete()


def deleted_running(stage: Stage) -> None:
    stage.wait("it is Ready", is_ready())
    stage.delete()


def evicted(stage: Stage) -> None:
    stage.wait("it is Ready", is_ready())
    stage.evict()


def over_its_storage(stage: Stage) -> None:
    """The kubelet itself evicts it."""
    stage.wait("it is evicted", phase("Failed"))


def unschedulable(stage: Stage) -> None:
    stage.wait("the scheduler says no", lambda state: "conditions" in state["status"])
    stage.delete()


SCENARIOS: Mapping[str, Scenario] = {
    "sandbox-killed": Scenario(spec(ONE, TWO), sandbox_killed),
    "sandbox-killed-mid-init": Scenario(
        spec(ONE, container("two", "sleep 3")), sandbox_killed_mid_init
    ),
    "sandbox-killed-for-good": Scenario(
        spec(ONE, TWO, restartPolicy="Never"), sandbox_killed_for_good
    ),
    "sandbox-killed-with-sidecars": Scenario(
        spec(sidecar("early"), ONE, sidecar("middle"), TWO), sandbox_killed
    ),
    "app-exits": Scenario(
        spec(ONE, TWO, app=container("app", "sleep 1; exit 7")),
        lambda stage: stage.wait("it restarts twice", runs("app", restarts=2)),
    ),
    "step-fails-then-succeeds": Scenario(
        spec(ONE, container("two", fails(2))), lambda stage: stage.wait("it is Ready", is_ready())
    ),
    "step-fails-on-failure": Scenario(
        spec(
            ONE,
            container("two", fails(1)),
            restartPolicy="OnFailure",
            app=container("app", "sleep 0.5"),
        ),
        lambda stage: stage.wait("it ends well", phase("Succeeded")),
    ),
    "step-fails-for-good": Scenario(
        spec(ONE, container("two", "sleep 0.5; exit 3"), restartPolicy="Never"),
        lambda stage: stage.wait("it fails", phase("Failed")),
    ),
    "app-fails-for-good": Scenario(
        spec(ONE, TWO, app=container("app", "sleep 0.5; exit 3"), restartPolicy="Never"),
        lambda stage: stage.wait("it fails", phase("Failed")),
    ),
    "succeeds": Scenario(
        spec(ONE, TWO, sidecar("log"), app=container("app", "sleep 0.5"), restartPolicy="Never"),
        lambda stage: stage.wait("it ends well", phase("Succeeded")),
    ),
    "sidecars-crash": Scenario(
        spec(
            sidecar("early"),
            ONE,
            sidecar("middle"),
            container("two", "sleep 3"),
            sidecar("late"),
        ),
        sidecars_crash,
    ),
    "restarted-in-place": Scenario(
        spec(
            ONE,
            TWO,
            app={**container("app", fails(1, code=7, then="exec sleep 3600")), **RESTART_ALL},
        ),
        lambda stage: stage.wait("it is Ready again", is_ready(restarts=1)),
    ),
    "deleted-mid-init": Scenario(
        spec(ONE, container("two", OBEDIENT), terminationGracePeriodSeconds=5), deleted_mid_init
    ),
    "deleted-running": Scenario(
        spec(ONE, TWO, app=container("app", OBEDIENT), terminationGracePeriodSeconds=5),
        deleted_running,
    ),
    "evicted": Scenario(
        spec(ONE, TWO, app=container("app", OBEDIENT), terminationGracePeriodSeconds=5), evicted
    ),
    "over-its-storage": Scenario(
        spec(
            ONE,
            app=container("app", "head -c 3000000 /dev/zero >/run/pod/much; exec sleep 3600"),
            volumes=[{"name": "memory", "emptyDir": {"sizeLimit": "1Mi"}}],
        ),
        over_its_storage,
    ),
    "image-missing": Scenario(
        spec(ONE, {**TWO, "image": "registry.test/nothing:1"}, restartPolicy="Never"),
        lambda stage: stage.wait("the kubelet waits", waits("two", "ImagePullBackOff")),
    ),
    "unschedulable": Scenario(
        spec(ONE, nodeSelector={"there-is": "no-such-node"}),
        unschedulable,
    ),
    "node-rebooted": Scenario(spec(ONE, TWO), node_rebooted),
    "node-rebooted-mid-init": Scenario(
        spec(ONE, container("two", "sleep 3")), node_rebooted_mid_init
    ),
}
