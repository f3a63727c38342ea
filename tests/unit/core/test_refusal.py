"""What the API server means when it refuses to create a Pod, with its own words."""

from typing import Any

import pytest

from initpipeline.api.reasons import Reason
from initpipeline.core.refusal import classify

TERMINATING: dict[str, Any] = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}


@pytest.mark.parametrize(
    ("code", "message", "reason", "final"),
    [
        pytest.param(
            422,
            'Pod "demo" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "data"',
            Reason.INVALID_TEMPLATE,
            True,
            id="the API's own validation",
        ),
        pytest.param(
            400,
            'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field',
            Reason.INVALID_TEMPLATE,
            True,
            id="strict decoding",
        ),
        pytest.param(
            413, "Request entity too large", Reason.INVALID_TEMPLATE, True, id="too large"
        ),
        pytest.param(
            403,
            'pods "demo" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1',
            Reason.QUOTA_EXCEEDED,
            False,
            id="no room in the quota",
        ),
        pytest.param(
            403,
            'pods "demo" is forbidden: failed quota: q: must specify cpu for: app',
            Reason.QUOTA_EXCEEDED,
            False,
            id="a quota that asks for requests",
        ),
        pytest.param(
            403,
            'pods "demo" is forbidden: violates PodSecurity "restricted:latest": privileged',
            Reason.POD_FORBIDDEN,
            False,
            id="Pod Security",
        ),
        pytest.param(
            403,
            'pods is forbidden: User "operator" cannot create resource "pods"',
            Reason.POD_FORBIDDEN,
            False,
            id="RBAC",
        ),
        pytest.param(
            400,
            'admission webhook "policy.example.com" denied the request: no',
            Reason.POD_FORBIDDEN,
            False,
            id="a webhook that says 400",
        ),
        pytest.param(
            500,
            'Internal error occurred: failed calling webhook "policy.example.com": refused',
            Reason.POD_FORBIDDEN,
            False,
            id="a webhook that does not answer",
        ),
        pytest.param(
            422,
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            Reason.POD_FORBIDDEN,
            False,
            id="an admission policy",
        ),
    ],
)
def test_refusals(code: int, message: str, reason: Reason, final: bool) -> None:
    refusal = classify(code, {"message": message})
    assert refusal is not None
    assert (refusal.reason, refusal.message, refusal.final) == (reason, message, final)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param(500, {"message": "etcdserver: request timed out"}, id="the server's fault"),
        pytest.param(429, {"message": "too many requests"}, id="too many requests"),
        pytest.param(503, {}, id="no server"),
        pytest.param(401, {"message": "Unauthorized"}, id="our own login"),
        pytest.param(
            403,
            {"message": "because it is being terminated", **TERMINATING},
            id="namespace terminating: nothing to retry",
        ),
    ],
)
def test_what_is_no_refusal_of_this_pod(code: int, status: dict[str, Any]) -> None:
    assert classify(code, status) is None
