"""A changed pipeline ends like a new one with the same spec, on a real kubelet.

A sample of what tests/unit/model/test_oracle.py compares on a model. The pipelines of all cases run
at the same time.
"""

import copy
import re
from typing import Any, Final

import pytest

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.poll import poll_until
from tests.statuses import condition
from tests.templates import container, sidecar, template

pytestmark = pytest.mark.long

SAME_SECONDS: Final = 60.0

GOOD = template(container("one", "true"), container("two", "true"))
OTHER = template(sidecar("log"), container("two", "true"), app="sleep 3600")
FAILING = template(container("one", "true"), container("bad", "exit 3"))
FAILING_FOR_GOOD = template(container("bad", "exit 3"), restartPolicy="Never")
HANGING = template(container("one", "true"), container("slow", "sleep 3600"))
DONE = template(container("one", "true"), app="true", restartPolicy="Never")


def spec(pod: Raw, **policies: Any) -> Raw:
    return {"template": pod, **policies}


CASES: Final[dict[str, list[Raw]]] = {
    "template": [spec(GOOD), spec(OTHER)],
    "template-and-back": [spec(GOOD), spec(OTHER), spec(GOOD)],
    "limits": [
        spec(HANGING, initPolicies=[{"name": "slow", "timeoutSeconds": 1}]),
        spec(FAILING, initPolicies=[{"name": "bad", "maxRestarts": 0}], backoffLimit=1),
    ],
    "deadline-removed": [spec(HANGING, initDeadlineSeconds=3), spec(GOOD)],
    "suspension": [spec(GOOD), spec(GOOD, suspend=True), spec(OTHER, runHistoryLimit=1)],
    "retries": [spec(FAILING_FOR_GOOD), spec(FAILING_FOR_GOOD, backoffLimit=1)],
    "policies": [
        spec(GOOD, rerunPolicy="Never", rerunStrategy="InPlace", ttlSecondsAfterFinished=3600),
        spec(DONE, rerunPolicy="OnPodLoss", ttlSecondsAfterFinished=7200),
    ],
}


@pytest.mark.usefixtures("operator")
def test_changed_pipelines_are_like_new_ones(env: E2EEnv) -> None:
    last: dict[str, int] = {}
    for name, specs in CASES.items():
        last[f"changed-{name}"] = create(env, f"changed-{name}", specs[0])
        last[f"new-{name}"] = create(env, f"new-{name}", specs[-1])
    for step in range(1, max(map(len, CASES.values()))):
        for name, specs in CASES.items():
            if step < len(specs):
                rest(env, f"changed-{name}", last[f"changed-{name}"])
                last[f"changed-{name}"] = change(env, f"changed-{name}", specs[step])
    compare(env, last)
    for name in last:
        env.request_run(name, "oracle")
    compare(env, last, token="oracle")


def create(env: E2EEnv, name: str, of: Raw) -> int:
    env.create(name, **copy.deepcopy(of))
    return 1


def change(env: E2EEnv, name: str, new: Raw) -> int:
    """Replace the spec, and return its generation."""
    before = env.pipeline(name)["spec"]
    absent: Raw = {field: None for field in before if field not in new}
    pod = {field: None for field in before["template"]["spec"] if field not in GOOD["spec"]}
    wanted = copy.deepcopy(new)
    wanted["template"]["spec"] = {**pod, **wanted["template"]["spec"]}
    env.patch(name, {"spec": {**absent, **wanted}})
    generation: int = env.pipeline(name)["metadata"]["generation"]
    return generation


def rest(env: E2EEnv, name: str, generation: int, token: str | None = None) -> None:
    """Wait until the operator has observed this generation and the token, and the pipeline is at
    rest."""

    def at_rest(state: Raw) -> bool:
        status = state.get("status", {})
        observed = status.get("observedGeneration") == state["metadata"]["generation"] >= generation
        busy = any(one["type"] == "Reconciling" for one in status.get("conditions", ()))
        return observed and not busy and token in (None, status.get("lastRerunToken"))

    env.pipelines.wait(name, "at rest", at_rest)


def compare(env: E2EEnv, last: dict[str, int], token: str | None = None) -> None:
    for name in CASES:
        changed, new = f"changed-{name}", f"new-{name}"
        rest(env, changed, last[changed], token)
        rest(env, new, last[new], token)
        become_equal(env, changed, new)


def become_equal(env: E2EEnv, changed: str, new: str) -> None:
    """Wait until both have the same state. The kubelet may report later that the app containers are
    ready."""

    def states() -> tuple[Raw, Raw]:
        return end_state(env, changed), end_state(env, new)

    def equal() -> bool:
        one, other = states()
        return one == other

    poll_until(equal, SAME_SECONDS, f"{changed} and {new} have the same state", state=states)


def end_state(env: E2EEnv, name: str) -> Raw:
    """Returns what the pipelines have in common, without what follows from their past."""
    status = env.pipeline(name)["status"]
    run = status.get("run", {})
    pods = [one for one in env.pods.of(name) if one["metadata"]["uid"] == status.get("podUID")]
    # If the run exceeded a limit, the operator deletes the Pod, at any time after this state.
    exists = bool(pods) and pods[-1]["event"] != "DELETED" and "exceeded" not in run
    return {
        "conditions": {
            type_: (found["status"], found["reason"], timeless(found["message"]))
            for type_ in ("Initialized", "Ready", "Stalled", "Suspended", "InPlaceUnavailable")
            if (found := condition(status, type_))
        },
        "pod": pod_spec(pods[-1]) if exists else None,
        "mirror": [
            (one["name"], one["ready"], [*one["state"]] if exists else None)
            for one in status["initContainerStatuses"]
        ],
        "progress": (status.get("initProgress"), status.get("currentStep")),
        "resources": status.get("effectiveResources"),
        "result": run.get("result"),
        "failed": status.get("failedRuns"),
        "exceeded": run.get("exceeded"),
    }


def pod_spec(pod: Raw) -> Raw:
    """Returns the Pod's spec and hash, without the volume of its token, which has a random name."""
    own = copy.deepcopy(pod["spec"])
    own.pop("volumes", None)
    for one in (*own["initContainers"], *own["containers"]):
        one.pop("volumeMounts", None)
    hash_ = pod["metadata"]["annotations"][names.TEMPLATE_HASH_ANNOTATION]
    return {"spec": own, "hash": hash_}


def timeless(message: str) -> str:
    """Returns the message without times and without restarts by the kubelet, which may restart a
    step before the operator has observed that it failed."""
    without_restarts = re.sub(r", restarted \d+ times?", "", message)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "T", without_restarts)
