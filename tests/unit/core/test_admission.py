"""Refusals of a Pod: the API server's messages (Kubernetes 1.36), and the operator's own."""

from typing import Any

import pytest

from initpipeline.api.itempaths import MOST_ITEMS
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType, Reason, Trigger
from initpipeline.core import admission
from initpipeline.core.admission import classify
from initpipeline.core.decide import CreatePod, DeletePod
from tests.builders import PipelineBuilder, pipeline, running_pod
from tests.unit.core.simulation import SimulatedPipeline, started

TERMINATING: dict[str, Any] = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}
FORBIDDEN = 'pods "demo" is forbidden: '

MAY_EXIST = ", but the Pod may exist or appear"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(429, ""), (401, ""), (409, ""), (500, MAY_EXIST), (504, MAY_EXIST), (None, MAY_EXIST)],
)
def test_failed_request_reports_whether_the_pod_may_exist(code: int | None, outcome: str) -> None:
    failed = admission.failed_request(code, "why")
    assert failed.reason is Reason.POD_REQUEST_FAILED
    assert failed.message == f"the request to create the Pod failed{outcome}: why"


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


def test_refusal_without_a_message_has_the_http_status() -> None:
    refusal = classify(413, {})
    assert refusal is not None
    assert refusal.reason is Reason.INVALID_TEMPLATE
    assert refusal.message == "the API server answered with HTTP status 413 and no message"


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
def test_answer_about_something_else_is_not_a_refusal(code: int, status: dict[str, Any]) -> None:
    assert classify(code, status) is None


SIDECAR: Raw = {"name": "proxy", "image": "envoy", "restartPolicy": "Always"}
NONE_COMPLETES = (
    "spec.template.spec.initContainers: Required value: "
    "must have at least one init container without restartPolicy=Always"
)
UNKNOWN = 'spec.initPolicies[0].name: Not found: "typo"'


def with_policies(*names: str, of: PipelineBuilder | None = None) -> PipelineBuilder:
    """Returns a pipeline with limits for init containers of these names."""
    limits = [{"name": name, "timeoutSeconds": 60} for name in names]
    return (of or pipeline()).policy(initPolicies=limits)


def restarting(policy: str) -> Raw:
    return {"name": "step", "image": "busybox", "restartPolicy": policy}


def with_variables(number: int) -> PipelineBuilder:
    """Returns a pipeline with this number of list items, besides its two containers."""
    step = {"name": "one", "image": "i", "env": [{"name": f"A{i}"} for i in range(number)]}
    app = {"name": "app", "image": "i"}
    return pipeline().with_template({"spec": {"initContainers": [step], "containers": [app]}})


def with_gates(*names: str) -> PipelineBuilder:
    """Returns a pipeline whose Pod has these scheduling gates."""
    step, app = {"name": "one", "image": "i"}, {"name": "app", "image": "i"}
    spec = {"initContainers": [step], "containers": [app]}
    gates = [{"name": name} for name in names]
    return pipeline().with_template({"spec": {**spec, "schedulingGates": gates}})


class TestRefusalOfSpec:
    @pytest.mark.parametrize(
        "good",
        [
            pytest.param(pipeline(), id="no policies"),
            pytest.param(with_policies("two", "one"), id="policies of steps"),
            pytest.param(pipeline().inits(SIDECAR, "step"), id="a step beside a sidecar"),
            pytest.param(pipeline().inits(restarting("Never")), id="a step that is tried once"),
            pytest.param(pipeline().inits(restarting("OnFailure")), id="a step that is retried"),
            pytest.param(with_gates("example.com/wait"), id="another scheduling gate"),
            pytest.param(with_variables(MOST_ITEMS - 2), id="as many list items as allowed"),
        ],
    )
    def test_valid_spec_is_accepted(self, good: PipelineBuilder) -> None:
        assert admission.refusal_of_spec(good.build()) is None

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            pytest.param(pipeline().inits(), NONE_COMPLETES, id="no init container"),
            pytest.param(pipeline().inits(SIDECAR), NONE_COMPLETES, id="sidecars alone"),
            pytest.param(with_policies("typo"), UNKNOWN, id="policy of nothing"),
            pytest.param(
                with_policies("app"),
                'spec.initPolicies[0].name: Not found: "app"',
                id="policy of an app container",
            ),
            pytest.param(
                with_policies("one", "proxy", of=pipeline().inits("one", SIDECAR)),
                'spec.initPolicies[1].name: Invalid value: "proxy": '
                "must be an init container without restartPolicy=Always",
                id="policy of a sidecar",
            ),
            pytest.param(
                with_gates("example.com/wait", "initpipeline.dev/run"),
                'spec.template.spec.schedulingGates: Forbidden: may not have "initpipeline.dev/run"'
                ", which the operator sets",
                id="the operator's scheduling gate",
            ),
            pytest.param(
                with_policies("typo", of=pipeline().inits(SIDECAR)),
                f"[{NONE_COMPLETES}, {UNKNOWN}]",
                id="two mistakes",
            ),
            pytest.param(
                with_variables(MOST_ITEMS - 1),
                "spec.template: Too many: 1501: must have at most 1500 list items and map entries "
                "in total: move variables to a ConfigMap, and arguments to a script",
                id="too many list items",
            ),
        ],
    )
    def test_invalid_spec_is_refused_with_message(self, bad: PipelineBuilder, message: str) -> None:
        refusal = admission.refusal_of_spec(bad.build())
        assert refusal is not None
        assert (refusal.reason, refusal.message) == (Reason.INVALID_TEMPLATE, message)


class TestReconcileOfRefusedSpec:
    """The admission policy, which refuses such a spec, is not installed."""

    BAD = SimulatedPipeline(with_policies("typo").of_generation(1))

    def corrected(self, state: SimulatedPipeline, **others: Any) -> SimulatedPipeline:
        return state.policy(initPolicies=[{"name": "one", "timeoutSeconds": 60}], **others)

    def test_pod_is_neither_created_nor_retried(self) -> None:
        now = self.BAD.reconcile(None)
        for seconds in (0, 600, 86400):
            now = now.reconcile(None, seconds)
            decision = now.decision
            assert (decision.action, decision.retry, decision.wake_at) == (None, False, None)
        assert (now.run.number, now.past) == (1, []), "a mistake of the spec is no failed run"
        stalled = now.condition(ConditionType.STALLED)
        assert (stalled.reason, stalled.message) == (Reason.INVALID_TEMPLATE, UNKNOWN)
        assert now.status.condition(ConditionType.RECONCILING) is None

    def test_running_pod_is_kept_and_next_is_not_created(self) -> None:
        live = (
            started(running_pod()).policy(initPolicies=[{"name": "typo"}]).reconcile(running_pod())
        )
        assert (live.decision.action, live.past) == (None, [])
        gone = live.reconcile(None, 60)
        assert gone.past == [(1, "Created", "Lost")]
        assert (gone.run.number, gone.run.trigger) == (2, Trigger.POD_LOST)
        assert gone.decision.action is None

    def test_pod_of_the_previous_run_is_deleted_first(self) -> None:
        edited = started(running_pod())
        edited = edited.change(edited.pipeline.inits(SIDECAR).of_generation(9))
        assert edited.reconcile(running_pod()).decision.action == DeletePod("pod-1")
        gone = edited.reconcile(running_pod()).reconcile(running_pod().deleting()).reconcile(None)
        assert (gone.run.number, gone.decision.action) == (2, None)
        assert gone.condition(ConditionType.STALLED).reason == Reason.INVALID_TEMPLATE

    def test_corrected_spec_continues_the_same_run(self) -> None:
        now = self.corrected(self.BAD.reconcile(None)).reconcile(None, 60)
        assert (now.run.number, now.run.trigger) == (1, Trigger.CREATED)
        assert isinstance(now.decision.action, CreatePod)
        assert now.status.condition(ConditionType.STALLED) is None

    def test_changed_but_invalid_spec_keeps_the_run(self) -> None:
        now = self.BAD.reconcile(None)
        for limit in range(5):
            now = now.policy(backoffLimit=limit).reconcile(None, limit)
            assert (now.run.number, now.decision.action) == (1, None)
        assert isinstance(self.corrected(now).reconcile(None, 10).decision.action, CreatePod)

    def test_suspended_pipeline_does_not_report_it(self) -> None:
        now = self.corrected(self.BAD.reconcile(None), suspend=True).reconcile(None, 60)
        assert now.status.condition(ConditionType.STALLED) is None
        assert now.policy(suspend=False).reconcile(None, 90).run.trigger is Trigger.RESUMED
