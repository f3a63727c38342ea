"""What the API server means when it refuses to create a Pod: the messages of Kubernetes 1.36."""

from typing import Any

import pytest

from initpipeline.api.reasons import Reason
from initpipeline.core.admission import classify

TERMINATING: dict[str, Any] = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}
FORBIDDEN = 'pods "demo" is forbidden: '

REFUSED: dict[Reason, dict[str, tuple[int, str]]] = {
    Reason.INVALID_TEMPLATE: {
        "validation of the Pod": (
            422,
            'Pod "demo" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "data"',
        ),
        "a LimitRange's default below the request": (
            422,
            'Pod "demo" is invalid: spec.initContainers[0].resources.requests: Invalid value: '
            '"100m": must be less than or equal to cpu limit of 50m',
        ),
        "a Pod that is named after a webhook": (
            422,
            'Pod "webhook" is invalid: spec.containers[0].image: Required value',
        ),
        "strict decoding": (
            400,
            'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field',
        ),
        "too large for the API server": (413, "Request entity too large: limit is 3145728"),
    },
    Reason.QUOTA_EXCEEDED: {
        "no room in the quota": (
            403,
            f"{FORBIDDEN}exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
        ),
    },
    Reason.QUOTA_REQUIRES_RESOURCES: {
        "a quota on requests": (
            403,
            f"{FORBIDDEN}failed quota: q: must specify cpu for: app; memory for: app,one",
        ),
        "a quota on limits": (
            403,
            f"{FORBIDDEN}failed quota: q: must specify limits.cpu for: one",
        ),
    },
    Reason.POD_FORBIDDEN: {
        "a quota whose usage is not computed yet": (
            403,
            f"{FORBIDDEN}status unknown for quota: q, resources: pods",
        ),
        "no quota for the resource": (403, f"{FORBIDDEN}insufficient quota to consume: cpu"),
        "no quota for the priority class": (
            500,
            "insufficient quota to match these scopes: [{PriorityClass In [cluster-services]}]",
        ),
        "a LimitRange's maximum": (
            403,
            f"{FORBIDDEN}maximum cpu usage per Container is 1, but limit is 2",
        ),
        "a LimitRange's minimum": (
            403,
            f"{FORBIDDEN}[minimum cpu usage per Container is 1, but request is 100m, minimum "
            "memory usage per Pod is 1Gi.  No request is specified]",
        ),
        "a LimitRange's ratio": (
            403,
            f"{FORBIDDEN}cpu max limit to request ratio per Container is 2, but provided ratio is "
            "10.000000",
        ),
        "no such service account": (
            403,
            f'{FORBIDDEN}error looking up service account ns/x: serviceaccount "x" not found',
        ),
        "no such PriorityClass": (403, f"{FORBIDDEN}no PriorityClass with name x was found"),
        "no such RuntimeClass": (403, f'{FORBIDDEN}pod rejected: RuntimeClass "x" not found'),
        "a RuntimeClass that wants other nodes": (
            403,
            f"{FORBIDDEN}conflict: runtimeClass.scheduling.nodeSelector[a] = b; "
            "pod.spec.nodeSelector[a] = c",
        ),
        "the namespace's node selector": (
            403,
            f"{FORBIDDEN}pod node label selector conflicts with its namespace node label selector",
        ),
        "Pod Security": (403, f'{FORBIDDEN}violates PodSecurity "restricted:latest": privileged'),
        "RBAC": (403, 'pods is forbidden: User "operator" cannot create resource "pods"'),
        "a validating policy": (
            422,
            f"{FORBIDDEN}ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        ),
        "a mutating policy that fails": (
            403,
            "policy 'p' with binding 'b' denied request: error applying patch: no such field",
        ),
        "a webhook that answers 400": (
            400,
            'admission webhook "policy.example.com" denied the request: no',
        ),
        "a webhook that answers 404": (
            404,
            'admission webhook "policy.example.com" denied the request: no such team',
        ),
        "a webhook that answers 409": (
            409,
            'admission webhook "policy.example.com" denied the request: taken',
        ),
        "a webhook that answers 503": (
            503,
            'admission webhook "policy.example.com" denied the request without explanation',
        ),
        "a webhook that cannot be reached": (
            500,
            'Internal error occurred: failed calling webhook "policy.example.com": failed to call '
            "webhook: connection refused",
        ),
        "a webhook whose patch does not fit": (
            500,
            "Internal error occurred: add operation does not apply: doc is missing path: "
            '"/spec/securityContext/x": missing value',
        ),
        "an admission plugin that fails": (
            500,
            "Internal error occurred: resource quota evaluation timed out",
        ),
    },
}


@pytest.mark.parametrize(
    ("reason", "code", "message"),
    [
        pytest.param(reason, code, message, id=name)
        for reason, rows in REFUSED.items()
        for name, (code, message) in rows.items()
    ],
)
def test_refusal_has_the_reason_and_is_never_final(reason: Reason, code: int, message: str) -> None:
    refusal = classify(code, {"message": message})
    assert refusal is not None
    assert (refusal.reason, refusal.message, refusal.final) == (reason, message, False)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param(500, {"message": "etcdserver: request timed out"}, id="etcd"),
        pytest.param(429, {"message": "too many requests"}, id="too many requests"),
        pytest.param(503, {}, id="no server"),
        pytest.param(
            504, {"message": "request did not complete within requested timeout"}, id="timeout"
        ),
        pytest.param(401, {"message": "Unauthorized"}, id="our own login"),
        pytest.param(404, {"message": 'namespaces "x" not found'}, id="no namespace"),
        pytest.param(
            409,
            {"message": 'Operation cannot be fulfilled on resourcequotas "q"'},
            id="a quota that another Pod was just counted in",
        ),
        pytest.param(
            403,
            {"message": "because it is being terminated", **TERMINATING},
            id="namespace terminating",
        ),
    ],
)
def test_answer_about_something_else_is_no_refusal(code: int, status: dict[str, Any]) -> None:
    assert classify(code, status) is None
