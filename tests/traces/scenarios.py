"""The recorded scenarios: a Pod's spec and the faults that are injected."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.templates import container, sidecar
from tests.watching import WatchLog

POD = "demo"
OBEDIENT = "trap 'exit 3' TERM; while true; do sleep 0.1; done"
"""A script that exits with 3 after SIGTERM."""

SECONDS = 120.0
"""The timeout of each step of a scenario."""


@dataclass(frozen=True)
class ScenarioEnv:
    """The Pod's namespace, the cluster, and the recorded states of the Pod."""

    cluster: Cluster
    api: client.ApiClient
    namespace: str
    pods: WatchLog

    def wait(self, what: str, condition: Callable[[Raw], bool]) -> Raw:
        """Return the first state of the Pod for which the condition is true."""
        return self.pods.wait(POD, what, condition, SECONDS)

    def delete(self) -> None:
        """Delete the Pod with its own grace period, and wait until it is gone."""
        client.CoreV1Api(self.api).delete_namespaced_pod(POD, self.namespace)
        self.wait_gone()

    def evict(self) -> None:
        """Evict the Pod as kubectl drain does, and wait until it is gone."""
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=POD))
        client.CoreV1Api(self.api).create_namespaced_pod_eviction(POD, self.namespace, eviction)
        self.wait_gone()

    def wait_gone(self) -> None:
        self.wait("the Pod is gone", lambda state: state["event"] == "DELETED")

    def reboot_node(self) -> None:
        self.cluster.reboot_node()

    def kill_sandbox(self) -> None:
        self.cluster.kill_sandbox(self.namespace, POD)

    def kill(self, container: str) -> None:
        self.cluster.kill_container(self.namespace, POD, container)


@dataclass(frozen=True)
class Scenario:
    """A Pod's spec, and what is done to the Pod."""

    spec: Raw
    play: Callable[[ScenarioEnv], object]


def spec(*init: Raw, app: Raw | None = None, **more: Any) -> Raw:
    """Return a Pod's spec. All containers mount an emptyDir, which survives restarts."""
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
    """Return a script that fails that often, then runs `then`. The volume holds the count."""
    file = "/run/pod/attempts"
    count = f"echo >>{file}; sleep 0.5"
    return f"{count}; [ $(wc -l <{file}) -gt {times} ] || {{ echo sorry; exit {code}; }}; {then}"


def status_of(state: Raw, name: str) -> Mapping[str, Any]:
    """Return a container's status. It is empty until the kubelet reports the container."""
    status = state.get("status", {})
    every = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    return next((one for one in every if one["name"] == name), {})


def runs(name: str, restarts: int = 0) -> Callable[[Raw], bool]:
    def condition(state: Raw) -> bool:
        status = status_of(state, name)
        return "running" in status.get("state", {}) and restarts <= int(status["restartCount"])

    return condition


def is_ready(restarts: int = 0) -> Callable[[Raw], bool]:
    """Return whether the Pod is Ready and its app container has been restarted that often."""

    def condition(state: Raw) -> bool:
        conditions = {c["type"]: c["status"] for c in state["status"].get("conditions", ())}
        ready = conditions.get("Ready") == "True"
        return ready and status_of(state, "app")["restartCount"] >= restarts

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


def sandbox_killed(env: ScenarioEnv) -> None:
    env.wait("it is Ready", is_ready())
    env.kill_sandbox()
    env.wait("it is Ready again", is_ready(restarts=1))


def sandbox_killed_for_good(env: ScenarioEnv) -> None:
    env.wait("it is Ready", is_ready())
    env.kill_sandbox()
    env.wait("it fails", phase("Failed"))


def sandbox_killed_mid_init(env: ScenarioEnv) -> None:
    env.wait("the second step runs", runs("two"))
    env.kill_sandbox()
    env.wait("it is Ready", is_ready())


def node_rebooted(env: ScenarioEnv) -> None:
    env.wait("it is Ready", is_ready())
    env.reboot_node()
    env.wait("it is Ready again", is_ready(restarts=1))


def node_rebooted_mid_init(env: ScenarioEnv) -> None:
    env.wait("the second step runs", runs("two"))
    env.reboot_node()
    env.wait("it is Ready", is_ready())


def sidecars_crash(env: ScenarioEnv) -> None:
    env.wait("the second step runs", runs("two"))
    env.kill("early")
    env.wait("the first sidecar runs again", runs("early", restarts=1))
    env.wait("it is Ready", is_ready())
    env.kill("late")
    env.wait("the last sidecar runs again", runs("late", restarts=1))


def deleted_mid_init(env: ScenarioEnv) -> None:
    env.wait("the second step runs", runs("two"))
    env.delete()


def deleted_running(env: ScenarioEnv) -> None:
    env.wait("it is Ready", is_ready())
    env.delete()


def evicted(env: ScenarioEnv) -> None:
    env.wait("it is Ready", is_ready())
    env.evict()


def over_its_storage(env: ScenarioEnv) -> None:
    # The app container writes more than the volume's limit.
    env.wait("it is evicted", phase("Failed"))


def unschedulable(env: ScenarioEnv) -> None:
    env.wait("the scheduler has failed", lambda state: "conditions" in state["status"])
    env.delete()


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
        lambda env: env.wait("it restarts twice", runs("app", restarts=2)),
    ),
    "step-fails-then-succeeds": Scenario(
        spec(ONE, container("two", fails(2))), lambda env: env.wait("it is Ready", is_ready())
    ),
    "step-fails-on-failure": Scenario(
        spec(
            ONE,
            container("two", fails(1)),
            restartPolicy="OnFailure",
            app=container("app", "sleep 0.5"),
        ),
        lambda env: env.wait("it ends well", phase("Succeeded")),
    ),
    "step-fails-for-good": Scenario(
        spec(ONE, container("two", "sleep 0.5; exit 3"), restartPolicy="Never"),
        lambda env: env.wait("it fails", phase("Failed")),
    ),
    "app-fails-for-good": Scenario(
        spec(ONE, TWO, app=container("app", "sleep 0.5; exit 3"), restartPolicy="Never"),
        lambda env: env.wait("it fails", phase("Failed")),
    ),
    "succeeds": Scenario(
        spec(ONE, TWO, sidecar("log"), app=container("app", "sleep 0.5"), restartPolicy="Never"),
        lambda env: env.wait("it ends well", phase("Succeeded")),
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
        lambda env: env.wait("it is Ready again", is_ready(restarts=1)),
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
        lambda env: env.wait("the kubelet waits", waits("two", "ImagePullBackOff")),
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
