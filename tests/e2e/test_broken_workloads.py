"""A wrapped Deployment with a common mistake is explained by the plugin, and then repaired."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.kubectl import Kubectl
from tests.plugin import Call
from tests.poll import poll_until
from tests.templates import container, deployment, sidecar, template

SECONDS = 60


@dataclass(frozen=True)
class Mistake:
    """A mistake in the spec of a Pod."""

    make: Callable[[Any], object]
    reason: str
    """The reason of the condition Ready."""
    explanation: str
    """A part of the output of `explain`."""


def step(**fields: Any) -> Callable[[Any], object]:
    """Return a mistake in the first init container.

    The kubelet reports a missing image or ConfigMap of the first init container at once, but of a
    later one only after about ten seconds.
    """
    return lambda spec: spec["initContainers"][0].update(fields)


def app(**fields: Any) -> Callable[[Any], object]:
    """Return a mistake in the app container."""
    return lambda spec: spec["containers"][0].update(fields)


def pod(**fields: Any) -> Callable[[Any], object]:
    """Return a mistake in the Pod's spec."""
    return lambda spec: spec.update(fields)


def beside(broken: Raw) -> Callable[[Any], object]:
    """Return a mistake that adds this sidecar before all init containers."""
    return lambda spec: spec["initContainers"].insert(0, broken)


def volume(**source: Any) -> Callable[[Any], object]:
    """Return a mistake that adds a volume of that source, which a step mounts."""

    def make(spec: Any) -> None:
        spec["volumes"] = [{"name": "data", **source}]
        spec["initContainers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]

    return make


CLOSED = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 600}

MISTAKES = {
    "missing-image": Mistake(
        step(image="busybox:no-such-tag"), "ImagePullFailed", "busybox:no-such-tag: not found"
    ),
    "invalid-image-name": Mistake(
        step(image="Busy Box"), "ImagePullFailed", "cannot pull an image with this name"
    ),
    "missing-image-of-the-app": Mistake(
        app(image="busybox:no-such-tag"), "ImagePullFailed", 'container "app": '
    ),
    "failing-command": Mistake(
        step(command=["sh", "-c", "echo no such table; exit 3"]),
        "StepFailed",
        'init container 1 of 2 "fetch" exited with 3',
    ),
    "missing-command": Mistake(
        step(command=["/bin/no-such-program"]),
        "StepFailed",
        'init container 1 of 2 "fetch" could not be started',
    ),
    "too-little-memory": Mistake(
        step(
            command=["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=200M count=3"],
            resources={"limits": {"memory": "20Mi"}},
        ),
        "StepFailed",
        "exited with 137 (OOMKilled)",
    ),
    "missing-ConfigMap": Mistake(
        step(envFrom=[{"configMapRef": {"name": "settings"}}]),
        "ContainerConfigError",
        'configmap "settings" not found',
    ),
    "root-despite-runAsNonRoot": Mistake(
        pod(securityContext={"runAsNonRoot": True}),
        "ContainerConfigError",
        "container has runAsNonRoot and image will run as root",
    ),
    "missing-Secret-of-a-volume": Mistake(
        volume(secret={"secretName": "keys"}), "StepPending", 'secret "keys" not found'
    ),
    "missing-PersistentVolumeClaim": Mistake(
        volume(persistentVolumeClaim={"claimName": "disk"}),
        "PodUnschedulable",
        'persistentvolumeclaim "disk" not found',
    ),
    "undeclared-volume": Mistake(
        step(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        "InvalidTemplate",
        'spec.initContainers[0].volumeMounts[0].name: Not found: "data"',
    ),
    "request-larger-than-any-node": Mistake(
        app(resources={"requests": {"cpu": "1000"}}), "PodUnschedulable", "Insufficient cpu"
    ),
    "missing-ServiceAccount": Mistake(
        pod(serviceAccountName="absent"),
        "PodForbidden",
        'serviceaccount "absent" not found',
    ),
    "scheduling-gate": Mistake(
        pod(schedulingGates=[{"name": "example.com/wait"}]),
        "PodPending",
        "until its scheduling gates are removed",
    ),
    "failing-probe-of-the-app": Mistake(
        app(readinessProbe=CLOSED), "ContainersNotReady", "Readiness probe failed"
    ),
    "failing-probe-of-a-sidecar": Mistake(
        beside(sidecar("proxy", "exec sleep 3600", startupProbe=CLOSED)),
        "StepRunning",
        'sidecar 1 of 3 "proxy" is running, but its startupProbe has not succeeded yet',
    ),
    "exiting-sidecar": Mistake(
        beside(sidecar("proxy", "echo no config; sleep 1; exit 1")),
        "ContainerFailed",
        'sidecar "proxy" exited with 1',
    ),
}


@pytest.fixture
def wrapped(call: Call, tmp_path: Path) -> Raw:
    """Return the pipeline that `wrap` creates from a Deployment."""
    file = tmp_path / "deployment.yaml"
    steps = container("fetch", "echo fetching"), container("migrate", "echo migrating")
    file.write_text(yaml.safe_dump(deployment("shop", template(*steps))))
    code, out, err = call("wrap", str(file))
    assert code == 0, err
    pipeline: Raw = yaml.safe_load(out)
    return pipeline


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_explained_and_repaired(
    mistake: Mistake, wrapped: Raw, env: E2EEnv, kubectl: Kubectl, call: Call
) -> None:
    """Applying the original file repairs the pipeline."""
    repaired = yaml.safe_dump(wrapped)
    mistake.make(wrapped["spec"]["template"]["spec"])
    kubectl("apply", "-f", "-", stdin=wrapped)
    env.wait_reason("shop", mistake.reason)

    def explanation() -> str:
        return " ".join(call("explain", "shop")[1].split())

    what = "explain prints the mistake"
    poll_until(lambda: mistake.explanation in explanation(), SECONDS, what, state=explanation)

    kubectl("apply", "-f", "-", stdin=repaired)
    code, _, err = call("status", "shop", "--watch", "--timeout", f"{SECONDS}s")
    assert code == 0, err
