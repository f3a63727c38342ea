"""A refused Pod, or one whose name is taken, becomes Ready in the same run once the cause is gone.

The cluster is complete: it has a quota controller, service accounts, and a kubelet.
"""

from typing import Any, Final

import pytest

from initpipeline.api.reasons import Reason
from tests.e2e.e2e_env import E2EEnv
from tests.kubectl import Kubectl
from tests.plugin import Call
from tests.poll import poll_until
from tests.statuses import message_of, reason_of, runs, status_of
from tests.templates import container, template

SECONDS: Final = 60
ONE: Final = container("one", "true")
REQUESTING: Final = {**ONE, "resources": {"requests": {"cpu": "100m"}}}
FOREVER: Final = ("--", "sh", "-c", "exec sleep 3600")
FIRST_RUN: Final = [(1, "Created", "")]

pytestmark = pytest.mark.usefixtures("operator")


def limit_range(**limits: Any) -> dict[str, Any]:
    spec = {"limits": [{"type": "Container", **limits}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": spec}


def test_run_continues_after_the_removal_of_a_conflicting_limit_range(
    env: E2EEnv, kubectl: Kubectl
) -> None:
    default = limit_range(default={"cpu": "50m"}, defaultRequest={"cpu": "10m"})
    kubectl("create", "-f", "-", stdin=default)
    env.create("shop", template(REQUESTING))
    refused = env.wait_reason("shop", Reason.INVALID_TEMPLATE)
    assert "must be less than or equal to cpu limit of 50m" in message_of(refused, "Ready")
    assert (status_of(refused, "Stalled"), runs(refused)) == ("True", FIRST_RUN)

    kubectl("delete", "limitrange", "small")
    ready = env.wait_ready("shop", run=1)
    assert (status_of(ready, "Stalled"), runs(ready)) == ("", FIRST_RUN)


def test_run_continues_after_a_missing_service_account_is_created(
    env: E2EEnv, kubectl: Kubectl
) -> None:
    env.create("shop", template(ONE, serviceAccountName="late"))
    refused = env.wait_reason("shop", Reason.POD_FORBIDDEN)
    assert 'serviceaccount "late" not found' in message_of(refused, "Ready")
    assert reason_of(refused, "Reconciling") == Reason.POD_FORBIDDEN

    kubectl("create", "serviceaccount", "late")
    assert runs(env.wait_ready("shop", run=1)) == FIRST_RUN


def test_run_continues_after_requests_required_by_a_quota_have_a_default(
    env: E2EEnv, kubectl: Kubectl, call: Call
) -> None:
    kubectl("create", "quota", "team", "--hard=requests.cpu=1")

    def counted() -> bool:
        return "requests.cpu" in kubectl("get", "quota", "team", "-o", "jsonpath={.status.hard}")

    poll_until(counted, SECONDS, "the quota has a status")
    env.create("shop", template(ONE))
    refused = env.wait_reason("shop", Reason.QUOTA_REQUIRES_RESOURCES)
    assert "must specify requests.cpu for" in message_of(refused, "Ready")
    assert "kubectl edit ipl shop" in call("explain", "shop")[1]
    events = kubectl("get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}").split()
    assert events.count("FailedCreate") == 1

    kubectl("create", "-f", "-", stdin=limit_range(defaultRequest={"cpu": "10m"}))
    assert runs(env.wait_ready("shop", run=1)) == FIRST_RUN


def test_run_continues_after_a_foreign_pod_is_deleted(
    env: E2EEnv, kubectl: Kubectl, call: Call
) -> None:
    kubectl("run", "shop", "--image=busybox:1.36", "--restart=Never", *FOREVER)
    kubectl("wait", "pod/shop", "--for=condition=Ready", f"--timeout={SECONDS}s")
    env.create("shop", template(ONE))
    env.wait_reason("shop", Reason.NAME_CONFLICT)
    kubectl("delete", "pod", "shop", "--grace-period=1")
    assert "does not appear to be running" not in call("explain", "shop")[1]
    assert runs(env.wait_ready("shop", run=1)) == FIRST_RUN


def test_orphaned_pod_is_not_adopted(env: E2EEnv, kubectl: Kubectl) -> None:
    env.create_ready("shop", template(ONE))
    left = kubectl("get", "pod", "shop", "-o", "jsonpath={.metadata.uid}")
    kubectl("delete", "ipl", "shop", "--cascade=orphan")
    env.create("shop", template(ONE))
    env.wait_reason("shop", Reason.NAME_CONFLICT)
    assert kubectl("get", "pod", "shop", "-o", "jsonpath={.metadata.uid}") == left
    kubectl("delete", "pod", "shop", "--grace-period=1")
    poll_until(
        lambda: status_of(env.pipeline("shop"), "Ready") == "True",
        SECONDS,
        "shop is Ready",
        state=lambda: env.pipeline("shop"),
    )


def test_pod_without_its_label_is_still_mirrored(env: E2EEnv, kubectl: Kubectl) -> None:
    env.create("shop", template(container("one", "until [ -e /tmp/go ]; do sleep 0.2; done")))
    env.wait_reason("shop", Reason.STEP_RUNNING)
    kubectl("label", "pod", "shop", "initpipeline.dev/name-")
    kubectl("exec", "shop", "-c", "one", "--", "touch", "/tmp/go")
    assert runs(env.wait_ready("shop", run=1)) == FIRST_RUN
    kubectl("delete", "pod", "shop", "--grace-period=1")
    lost = env.wait_reason("shop", Reason.STEP_RUNNING, run=2)
    assert runs(lost) == [(1, "Created", "Lost"), (2, "PodLost", "")]
