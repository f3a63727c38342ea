"""A Deployment becomes a pipeline, is broken in the ways in which workloads are, and repaired. What
is wrong is told in the terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Call, E2EEnv
from tests.e2e.templates import container, deployment, sidecar, template
from tests.kubectl import Kubectl
from tests.poll import poll_until
from tests.watching import Object

SECONDS = 60


@dataclass(frozen=True)
class Mistake:
    """In the spec of a Pod."""

    make: Callable[[Any], object]
    reason: str
    """What kubectl get shows of it."""
    told: str
    """Words that explain says."""


def step(**fields: Any) -> Callable[[Any], object]:
    """A mistake in the first of the init containers: the kubelet tells of an image or a ConfigMap
    that is missing at once there, and of a later step's with its next look, some ten seconds on."""
    return lambda spec: spec["initContainers"][0].update(fields)


def app(**fields: Any) -> Callable[[Any], object]:
    """A mistake in the app container."""
    return lambda spec: spec["containers"][0].update(fields)


def pod(**fields: Any) -> Callable[[Any], object]:
    """A mistake in the Pod."""
    return lambda spec: spec.update(fields)


def beside(broken: Object) -> Callable[[Any], object]:
    """A sidecar before all steps."""
    return lambda spec: spec["initContainers"].insert(0, broken)


def volume(**source: Any) -> Callable[[Any], object]:
    """A volume of that source, which a step wants."""

    def make(spec: Any) -> None:
        spec["volumes"] = [{"name": "data", **source}]
        spec["initContainers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]

    return make


CLOSED = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 600}

MISTAKES = {
    "an-image-that-is-not-there": Mistake(
        step(image="busybox:no-such-tag"), "ImagePullFailed", "busybox:no-such-tag: not found"
    ),
    "an-image-whose-name-is-none": Mistake(
        step(image="Busy Box"), "ImagePullFailed", "cannot pull an image of this name"
    ),
    "an-image-of-the-app-that-is-not-there": Mistake(
        app(image="busybox:no-such-tag"), "ImagePullFailed", 'container "app": '
    ),
    "a-command-that-fails": Mistake(
        step(command=["sh", "-c", "echo no such table; exit 3"]),
        "StepFailed",
        'init container 1 of 2 "fetch" exited with 3',
    ),
    "a-command-that-the-image-does-not-have": Mistake(
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
    "a-ConfigMap-that-is-missing": Mistake(
        step(envFrom=[{"configMapRef": {"name": "settings"}}]),
        "ContainerConfigError",
        'configmap "settings" not found',
    ),
    "root-where-that-is-forbidden": Mistake(
        pod(securityContext={"runAsNonRoot": True}),
        "ContainerConfigError",
        "container has runAsNonRoot and image will run as root",
    ),
    "a-Secret-that-is-missing-in-a-volume": Mistake(
        volume(secret={"secretName": "keys"}), "StepPending", 'secret "keys" not found'
    ),
    "a-claim-that-is-missing": Mistake(
        volume(persistentVolumeClaim={"claimName": "disk"}),
        "PodUnschedulable",
        'persistentvolumeclaim "disk" not found',
    ),
    "a-volume-that-is-not-declared": Mistake(
        step(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        "InvalidTemplate",
        'spec.initContainers[0].volumeMounts[0].name: Not found: "data"',
    ),
    "more-than-any-node-has": Mistake(
        app(resources={"requests": {"cpu": "1000"}}), "PodUnschedulable", "Insufficient cpu"
    ),
    "a-service-account-that-is-missing": Mistake(
        pod(serviceAccountName="nobody"),
        "PodForbidden",
        'serviceaccount "nobody" not found',
    ),
    "a-gate-that-nobody-opens": Mistake(
        pod(schedulingGates=[{"name": "example.com/wait"}]),
        "PodPending",
        "until its scheduling gates are removed",
    ),
    "a-probe-of-the-app-that-fails": Mistake(
        app(readinessProbe=CLOSED), "ContainersNotReady", "Readiness probe failed"
    ),
    "a-sidecar-whose-probe-fails": Mistake(
        beside(sidecar("proxy", "exec sleep 3600", startupProbe=CLOSED)),
        "StepRunning",
        'sidecar 1 of 3 "proxy" is running, but its startupProbe has yet to succeed',
    ),
    "a-sidecar-that-ends": Mistake(
        beside(sidecar("proxy", "echo no config; sleep 1; exit 1")),
        "ContainerFailed",
        'sidecar "proxy" exited with 1',
    ),
}


@pytest.fixture
def wrapped(call: Call, tmp_path: Path) -> Object:
    """The pipeline that wrap makes of the Deployment."""
    file = tmp_path / "deployment.yaml"
    steps = container("fetch", "echo fetching"), container("migrate", "echo migrating")
    file.write_text(yaml.safe_dump(deployment("shop", template(*steps))))
    code, out, err = call("wrap", str(file))
    assert code == 0, err
    made: Object = yaml.safe_load(out)
    return made


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained_and_repaired(
    mistake: Mistake, wrapped: Object, env: E2EEnv, kubectl: Kubectl, call: Call
) -> None:
    """Repaired by the file as it was before."""
    repaired = yaml.safe_dump(wrapped)
    mistake.make(wrapped["spec"]["template"]["spec"])
    kubectl("apply", "-f", "-", stdin=wrapped)
    env.wait_reason("shop", mistake.reason)

    def explanation() -> str:
        return " ".join(call("explain", "shop")[1].split())

    what = "explain prints the mistake"
    poll_until(lambda: mistake.told in explanation(), SECONDS, what, state=explanation)

    kubectl("apply", "-f", "-", stdin=repaired)
    code, _, err = call("status", "shop", "--watch", "--timeout", f"{SECONDS}s")
    assert code == 0, err
