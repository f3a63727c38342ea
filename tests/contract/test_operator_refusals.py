"""Status of a pipeline whose Pod is refused, on an API server without the admission policy.

The operator reports the API server's message, or its own if the API server accepts the Pod.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason
from initpipeline.core import admission
from initpipeline.core.facts import Pipeline
from tests.builders import NAME, pipeline, running_pod
from tests.contract.admission_client import AdmissionClient
from tests.contract.admission_table import REFUSED, Case, refused, template_of
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.kubectl import Kubectl
from tests.poll import poll_until
from tests.statuses import condition, is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]


@refused("policy")
def test_each_error_of_the_policy_is_reported_by_the_operator_or_the_api_server(
    admission_client: AdmissionClient, case: Case
) -> None:
    own_refusal = admission.refusal_of_spec(
        Pipeline.from_api(pipeline().raw() | {"spec": case.body["spec"]})
    )
    api_refusal = admission_client.pod_refusal(case.template)
    for error in re.split(r", (?=spec\.)", case.message.removeprefix("[").removesuffix("]")):
        pod_error = error.replace("spec.template.spec.", "spec.")
        is_own = own_refusal is not None and error in own_refusal.message
        is_of_api = api_refusal is not None and pod_error in api_refusal.message
        assert is_own is not is_of_api, error


@pytest.mark.usefixtures("shared_operator")
@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("sidecars alone", REFUSED["sidecars alone"]["policy"], id="the operator's"),
        pytest.param(
            "step with a readiness probe",
            'Pod "demo" is invalid: spec.initContainers[0].readinessProbe: Forbidden: '
            "may not be set for init containers without restartPolicy=Always",
            id="the API server's",
        ),
    ],
)
def test_invalid_pod_is_stalled_with_the_message(env: ContractEnv, row: str, message: str) -> None:
    env.create(pipeline().with_template(template_of(REFUSED[row])))

    env.wait("Stalled", lambda status: condition(status, "Stalled")["status"] == "True")
    for type_ in ("Ready", "Initialized"):
        reported = condition(env.status(), type_)
        assert (reported["reason"], reported["message"]) == (Reason.INVALID_TEMPLATE, message)
    assert condition(env.status(), "Stalled")["message"].startswith(message)
    assert env.pod() is None


def step(**fields: Any) -> Raw:
    """Returns a template whose only step has these fields."""
    return template_of({"step": fields})


def pod(**fields: Any) -> Raw:
    """Returns a template with these fields in its Pod spec."""
    return template_of({"spec": fields})


def limit_range(**limits: Raw) -> Raw:
    """Returns a LimitRange for containers."""
    spec = {"limits": [{"type": "Container", **limits}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "cause"}, "spec": spec}


def quota(hard: Raw, *, computed: bool = True) -> Raw:
    """Returns a ResourceQuota with zero usage, since no quota controller runs that would compute
    it."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "cause"},
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": dict.fromkeys(hard, "0") if computed else {}},
    }


ADMISSION: Final = "admissionregistration.k8s.io/v1"
ANY_POD: Final = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}
TEST_NAMESPACE: Final = {"matchLabels": {"kubernetes.io/metadata.name": "NAMESPACE"}}
"""Selects the namespace of the test. RefusalEnv replaces NAMESPACE with its name."""


def policy(kind: str, **spec: Any) -> tuple[Raw, Raw]:
    """Returns an admission policy of this kind for the Pods of the namespace, and its binding."""
    name = {"name": "cause-NAMESPACE"}
    match = {"namespaceSelector": TEST_NAMESPACE, "resourceRules": [ANY_POD]}
    binding: Raw = {"policyName": "cause-NAMESPACE"}
    if kind.startswith("Validating"):
        binding["validationActions"] = ["Deny"]
    body = {"matchConstraints": match, "failurePolicy": "Fail", **spec}
    return (
        {"apiVersion": ADMISSION, "kind": kind, "metadata": name, "spec": body},
        {"apiVersion": ADMISSION, "kind": f"{kind}Binding", "metadata": name, "spec": binding},
    )


def mutation(expression: str) -> tuple[Raw, Raw]:
    """Returns a policy that applies this JSON patch to each Pod, and its binding."""
    change = {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}
    kind = "MutatingAdmissionPolicy"
    return policy(kind, mutations=[change], reinvocationPolicy="Never")


def webhook(url: str) -> Raw:
    """Returns a mutating webhook with this URL for the Pods of the namespace."""
    hook = {
        "name": "cause.example.com",
        "clientConfig": {"url": url},
        "rules": [ANY_POD],
        "namespaceSelector": TEST_NAMESPACE,
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind, name = "MutatingWebhookConfiguration", {"name": "cause-NAMESPACE"}
    return {"apiVersion": ADMISSION, "kind": kind, "metadata": name, "webhooks": [hook]}


@dataclass(frozen=True)
class Cause:
    """The cause of a refusal that a later change in the cluster removes."""

    reason: Reason
    message: str
    """A part of the API server's message."""
    objects: tuple[Raw, ...] = ()
    """Objects that cause the refusal until the test deletes them."""
    missing: Raw | None = None
    """An object whose absence causes the refusal until the test creates it."""
    label: str = ""
    """A label of the namespace that causes the refusal until the test removes it."""
    template: Raw = field(default_factory=step)
    stalled: bool = False
    """True if the condition Stalled is set at once."""


REQUESTS: Final = step(resources={"requests": {"cpu": "100m"}})
INVALID: Final = Reason.INVALID_TEMPLATE

CAUSES: Final = {
    "default limit below the request": Cause(
        INVALID,
        "must be less than or equal to cpu limit of 50m",
        (limit_range(default={"cpu": "50m"}, defaultRequest={"cpu": "10m"}),),
        template=REQUESTS,
        stalled=True,
    ),
    "ratio below that of limit to request": Cause(
        Reason.POD_FORBIDDEN,
        "cpu max limit to request ratio per Container is 2",
        (limit_range(maxLimitRequestRatio={"cpu": "2"}),),
        template=step(resources={"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}),
    ),
    "maximum below the limit": Cause(
        Reason.POD_FORBIDDEN,
        "maximum cpu usage per Container is 50m",
        (limit_range(max={"cpu": "50m"}),),
        template=step(resources={"limits": {"cpu": "100m"}}),
    ),
    "minimum above the request": Cause(
        Reason.POD_FORBIDDEN,
        "minimum cpu usage per Container is 200m",
        (limit_range(min={"cpu": "200m"}),),
        template=REQUESTS,
    ),
    "quota without room": Cause(
        Reason.QUOTA_EXCEEDED, "exceeded quota: cause", (quota({"pods": "0"}),)
    ),
    "quota on requests": Cause(
        Reason.QUOTA_REQUIRES_RESOURCES,
        "must specify requests.cpu for",
        (quota({"requests.cpu": "1"}),),
        stalled=True,
    ),
    "quota on limits": Cause(
        Reason.QUOTA_REQUIRES_RESOURCES,
        "must specify limits.memory for",
        (quota({"limits.memory": "1Gi"}),),
        stalled=True,
    ),
    "quota that is not computed": Cause(
        Reason.POD_FORBIDDEN,
        "status unknown for quota: cause",
        (quota({"pods": "9"}, computed=False),),
    ),
    "policy that makes the Pod invalid": Cause(
        INVALID,
        'spec.nodeSelector: Invalid value: "a b"',
        mutation(
            '[JSONPatch{op: "add", path: "/spec/nodeSelector", value: {"team": "a b"}}]',
        ),
        stalled=True,
    ),
    "policy whose mutation fails": Cause(
        Reason.POD_FORBIDDEN,
        "denied request",
        mutation('[JSONPatch{op: "remove", path: "/spec/absent"}]'),
    ),
    "policy that denies": Cause(
        Reason.POD_FORBIDDEN,
        "denied request: not today",
        policy(
            "ValidatingAdmissionPolicy",
            validations=[{"expression": "false", "message": "not today"}],
        ),
    ),
    "webhook that does not answer": Cause(
        Reason.POD_FORBIDDEN,
        'failed calling webhook "cause.example.com"',
        (webhook("https://127.0.0.1:1/"),),
    ),
    "Pod Security": Cause(
        Reason.POD_FORBIDDEN,
        "violates PodSecurity",
        label="pod-security.kubernetes.io/enforce",
    ),
    "no such PriorityClass": Cause(
        Reason.POD_FORBIDDEN,
        "no PriorityClass with name",
        missing={
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "cause-NAMESPACE"},
            "value": 1,
        },
        template=pod(priorityClassName="cause-NAMESPACE"),
    ),
    "no such RuntimeClass": Cause(
        Reason.POD_FORBIDDEN,
        "not found",
        missing={
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "cause-NAMESPACE"},
            "handler": "runc",
        },
        template=pod(runtimeClassName="cause-NAMESPACE"),
    ),
}


@dataclass(frozen=True)
class RefusalEnv:
    """Creates and removes causes of refusals in the namespace of a test."""

    kubectl: Kubectl
    namespace: str

    def named(self, value: Any) -> Any:
        """Returns the value with the namespace's name instead of NAMESPACE."""
        return json.loads(json.dumps(value).replace("NAMESPACE", self.namespace))

    def of_cause(self, cause: Cause) -> Cause:
        """Returns the cause with the namespace's name in its template."""
        return replace(cause, template=self.named(cause.template))

    def create(self, template: Raw) -> None:
        """Create an object, and its status if it has one."""
        manifest = self.named(template)
        self.kubectl("create", "-n", self.namespace, "-f", "-", stdin=manifest)
        if status := manifest.get("status"):
            patch = json.dumps({"status": status})
            options = ("--subresource=status", "--type=merge", "-p", patch)
            self.kubectl("patch", "-n", self.namespace, *self._name(manifest), *options)

    def delete(self, template: Raw) -> None:
        """Delete an object, if it exists."""
        name = self._name(self.named(template))
        self.kubectl("delete", "-n", self.namespace, *name, "--ignore-not-found", "--wait=false")

    def label(self, label: str) -> None:
        """Label the namespace."""
        self.kubectl("label", "namespace", self.namespace, label)

    @staticmethod
    def _name(manifest: Raw) -> tuple[str, str]:
        return manifest["kind"], manifest["metadata"]["name"]


@pytest.fixture
def refusal_env(kubectl: Kubectl, namespace: str) -> RefusalEnv:
    return RefusalEnv(kubectl, namespace)


@pytest.fixture
def active_cause(
    refusal_env: RefusalEnv, admission_client: AdmissionClient, request: pytest.FixtureRequest
) -> Iterator[Cause]:
    """Makes the cause effective, and removes its objects at the end of the test."""
    cause = refusal_env.of_cause(request.param)
    with ExitStack() as undo:
        for template in cause.objects:
            undo.callback(refusal_env.delete, template)
            refusal_env.create(template)
        if cause.label:
            refusal_env.label(f"{cause.label}=restricted")
        if cause.missing is not None:
            undo.callback(refusal_env.delete, cause.missing)

        def refuses() -> bool:
            refusal = admission_client.pod_refusal(cause.template)
            return refusal is not None and cause.message in refusal.message

        poll_until(
            refuses,
            TIMEOUT_SECONDS,
            cause.message,
            state=lambda: admission_client.pod_refusal(cause.template),
        )
        yield cause


def remove(cause: Cause, refusal_env: RefusalEnv) -> None:
    """Removes the cause of the refusal."""
    for template in cause.objects:
        refusal_env.delete(template)
    if cause.label:
        refusal_env.label(f"{cause.label}-")
    if cause.missing is not None:
        refusal_env.create(cause.missing)


@pytest.mark.newest
@pytest.mark.usefixtures("shared_operator")
@pytest.mark.parametrize("active_cause", CAUSES.values(), ids=CAUSES, indirect=True)
def test_pod_is_created_in_the_same_run_when_the_cause_is_removed(
    active_cause: Cause,
    refusal_env: RefusalEnv,
    env: ContractEnv,
    shared_request_counter: RequestCounter,
) -> None:
    env.create(pipeline().with_template(active_cause.template))
    status = env.wait(
        "the refusal",
        lambda status: condition(status, "Ready")["reason"] == active_cause.reason and status,
    )
    assert active_cause.message in condition(status, "Ready")["message"]
    assert runs_in(status) == [(1, "Created", "")]
    other = {True: ("Stalled", "Reconciling"), False: ("Reconciling", "Stalled")}
    holds, absent = other[active_cause.stalled]
    assert condition(status, holds)["reason"] == active_cause.reason
    assert condition(status, absent)["status"] == ""

    remove(active_cause, refusal_env)
    env.wait_for_pod(run=1)
    status = env.wait("no Stalled", lambda s: condition(s, "Ready")["reason"] == "PodPending" and s)
    assert condition(status, "Stalled")["status"] == ""
    assert runs_in(status) == [(1, "Created", "")]
    writes = shared_request_counter.counts_at_rest()["patch initpipelines/status 200"]
    assert writes == 2, "one for the run with its refusal, one for its end, and none for a retry"


DELETED_POD: Final = {**ANY_POD, "operations": ["DELETE"]}


def keep(*resources: Raw) -> tuple[Raw, Raw]:
    """Returns a policy that refuses these requests in the namespace, and its binding."""
    body, binding = policy(
        "ValidatingAdmissionPolicy",
        validations=[{"expression": "false", "message": "kept"}],
        matchConstraints={"namespaceSelector": TEST_NAMESPACE, "resourceRules": list(resources)},
    )
    return body, binding


@pytest.mark.newest
@pytest.mark.usefixtures("shared_operator")
def test_refused_deletion_is_reported_until_it_succeeds(
    refusal_env: RefusalEnv, env: ContractEnv
) -> None:
    env.create()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)
    with ExitStack() as undo:
        for template in keep(DELETED_POD):
            undo.callback(refusal_env.delete, template)
            refusal_env.create(template)
        poll_until(lambda: not deletable(env), TIMEOUT_SECONDS, "the policy refuses deletions")
        env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "again"}}})
        failed = env.wait("the failure", lambda s: of_deletion(s, "Reconciling"))
        assert 'the Pod "demo" of an earlier run is not deleted' in failed
        assert "denied request: kept" in failed
        assert condition(env.status(), "Ready")["reason"] == Reason.DELETION_FAILED
        env.patch({"spec": {"suspend": True}})
        env.wait("suspended", lambda s: condition(s, "Suspended")["status"])
        assert of_deletion(env.status(), "Reconciling")
    reason = Reason.POD_TERMINATING
    env.wait("the deletion", lambda s: condition(s, "Reconciling")["reason"] == reason, 60)
    env.delete_pod()
    env.wait("no Pod", lambda s: not condition(s, "Reconciling")["status"])
    assert runs_in(env.status())[-1][0] == 2


def deletable(env: ContractEnv) -> bool:
    """Returns whether the API server would delete the Pod."""
    delete = client.CoreV1Api(env.api).delete_namespaced_pod
    try:
        delete("demo", env.namespace, dry_run="All")
    except client.ApiException:
        return False
    return True


def of_deletion(status: Raw, type_: str) -> str:
    """Returns the message of the condition. Empty: it does not report a failed deletion."""
    found = condition(status, type_)
    return str(found["message"]) if found["reason"] == Reason.DELETION_FAILED else ""


FOREIGN_OWNER: Final = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}

POWERS: Final[dict[str, Raw]] = {
    "none": step(),
    "host network": pod(hostNetwork=True),
    "host processes": pod(hostPID=True),
    "privileged": step(securityContext={"privileged": True}),
    "files of the node": pod(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
    "node": pod(nodeName="node"),
    "priority of the system": pod(priorityClassName="system-node-critical"),
    "priority as a number": pod(priority=2_000_001_000),
    "invalid finalizer": step() | {"metadata": {"finalizers": ["example"]}},
    "invalid label": step() | {"metadata": {"labels": {"a b": "c"}}},
    "foreign name": step() | {"metadata": {"name": "other", "generateName": "other-"}},
    "foreign owner": step() | {"metadata": {"ownerReferences": [FOREIGN_OWNER]}},
    "labels and annotations of the operator": step()
    | {
        "metadata": {
            "labels": {names.NAME_LABEL: "other"},
            "annotations": {names.RUN_ANNOTATION: "99", names.TEMPLATE_HASH_ANNOTATION: "a"},
        }
    },
}
"""Templates with which a user may try to get more than the namespace permits."""


@pytest.mark.usefixtures("shared_operator")
@pytest.mark.parametrize("template", POWERS.values(), ids=POWERS)
def test_pod_is_created_only_if_its_user_could_create_it(
    env: ContractEnv, refusal_env: RefusalEnv, admission_client: AdmissionClient, template: Raw
) -> None:
    refusal_env.label("pod-security.kubernetes.io/enforce=baseline")
    own = {key: value for key, value in template.get("metadata", {}).items() if key != "name"}
    refusal = admission_client.pod_refusal(template | {"metadata": own})
    env.create(pipeline().with_template(template))
    if refusal is None:
        metadata = env.wait_for_pod(run=1)["metadata"]
        assert (metadata["name"], metadata["labels"][names.NAME_LABEL]) == (NAME, NAME)
        assert [owner["kind"] for owner in metadata["ownerReferences"]] == [names.KIND]
        return
    message = refusal.message.replace('"shop"', f'"{NAME}"')[:200]
    env.wait("the refusal", lambda s: condition(s, "Ready")["message"].startswith(message))
    assert env.pod() is None
