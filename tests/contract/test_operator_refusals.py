"""What the operator reports, on an API server without the admission policy, about a pipeline whose
Pod is refused: what the API server answered, or its own words if the API server accepts the Pod.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from initpipeline.api.reasons import Reason
from initpipeline.core import admission
from initpipeline.core.facts import Pipeline
from tests.builders import pipeline
from tests.contract.admission_table import REFUSED, Case, refused, template_of
from tests.contract.conftest import Kubectl
from tests.contract.door import Door
from tests.contract.operator_world import Ledger, World, condition, runs, until

pytest_plugins = ["tests.contract.operator_fixtures"]

Object = dict[str, Any]


@refused("policy")
def test_every_word_of_the_policy_is_said_by_one_of_them(door: Door, case: Case) -> None:
    ours = admission.refusal_of_spec(
        Pipeline.from_api(pipeline().raw() | {"spec": case.body["spec"]})
    )
    the_servers = door.pod_refusal(case.template)
    for error in re.split(r", (?=spec\.)", case.message.removeprefix("[").removesuffix("]")):
        of_the_pod = error.replace("spec.template.spec.", "spec.")
        said_by_us = ours is not None and error in ours.message
        said_by_it = the_servers is not None and of_the_pod in the_servers.message
        assert said_by_us is not said_by_it, error


@pytest.mark.usefixtures("shared_operator")
@pytest.mark.parametrize(
    ("line", "words"),
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
def test_invalid_pod_is_stalled_with_the_message(world: World, line: str, words: str) -> None:
    world.create(pipeline().with_template(template_of(REFUSED[line])))

    world.wait("Stalled", lambda status: condition(status, "Stalled")["status"] == "True")
    for type_ in ("Ready", "Initialized"):
        reported = condition(world.status(), type_)
        assert (reported["reason"], reported["message"]) == (Reason.INVALID_TEMPLATE, words)
    assert condition(world.status(), "Stalled")["message"].startswith(words)
    assert world.pod() is None


def step(**fields: Any) -> Object:
    """A template whose one step has these fields."""
    return template_of({"step": fields})


def pod(**fields: Any) -> Object:
    """A template whose Pod has these fields in its spec."""
    return template_of({"spec": fields})


def limit_range(**limits: Object) -> Object:
    """Of containers."""
    spec = {"limits": [{"type": "Container", **limits}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "cause"}, "spec": spec}


def quota(hard: Object, *, computed: bool = True) -> Object:
    """A ResourceQuota without usage: no quota controller runs that would compute it."""
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
HERE: Final = {"matchLabels": {"kubernetes.io/metadata.name": "NAMESPACE"}}
"""The namespace of the test. Its name takes the place of NAMESPACE."""


def policy(kind: str, **spec: Any) -> tuple[Object, Object]:
    """An admission policy of this kind for the Pods of the namespace, and its binding."""
    name = {"name": "cause-NAMESPACE"}
    match = {"namespaceSelector": HERE, "resourceRules": [ANY_POD]}
    binding: Object = {"policyName": "cause-NAMESPACE"}
    if kind.startswith("Validating"):
        binding["validationActions"] = ["Deny"]
    body = {"matchConstraints": match, "failurePolicy": "Fail", **spec}
    return (
        {"apiVersion": ADMISSION, "kind": kind, "metadata": name, "spec": body},
        {"apiVersion": ADMISSION, "kind": f"{kind}Binding", "metadata": name, "spec": binding},
    )


def mutation(expression: str) -> tuple[Object, Object]:
    """A policy that applies this to each Pod."""
    change = {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}
    kind = "MutatingAdmissionPolicy"
    return policy(kind, mutations=[change], reinvocationPolicy="Never")


def webhook(url: str) -> Object:
    """A mutating webhook for the Pods of the namespace that answers at this address."""
    hook = {
        "name": "cause.example.com",
        "clientConfig": {"url": url},
        "rules": [ANY_POD],
        "namespaceSelector": HERE,
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind, name = "MutatingWebhookConfiguration", {"name": "cause-NAMESPACE"}
    return {"apiVersion": ADMISSION, "kind": kind, "metadata": name, "webhooks": [hook]}


@dataclass(frozen=True)
class Cause:
    """Why the API server refuses a Pod that it would accept in another namespace, or later."""

    reason: Reason
    words: str
    objects: tuple[Object, ...] = ()
    """Objects that exist and are deleted later."""
    missing: Object | None = None
    """An object that does not exist and is created later."""
    label: str = ""
    """A label of the namespace with the value "restricted" that is removed later."""
    template: Object = field(default_factory=step)
    stalled: bool = False
    """At once."""


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
class Cluster:
    """The namespace of a test, and what is in its way."""

    kubectl: Kubectl
    namespace: str

    def named(self, thing: Any) -> Any:
        """The same with the namespace's name in it."""
        return json.loads(json.dumps(thing).replace("NAMESPACE", self.namespace))

    def of_cause(self, cause: Cause) -> Cause:
        return replace(cause, template=self.named(cause.template))

    def create(self, thing: Object) -> None:
        made = self.named(thing)
        self.kubectl("create", "-n", self.namespace, "-f", "-", stdin=made)
        if status := made.get("status"):
            patch = json.dumps({"status": status})
            options = ("--subresource=status", "--type=merge", "-p", patch)
            self.kubectl("patch", "-n", self.namespace, *self._name(made), *options)

    def delete(self, thing: Object) -> None:
        name = self._name(self.named(thing))
        self.kubectl("delete", "-n", self.namespace, *name, "--ignore-not-found", "--wait=false")

    def label(self, label: str) -> None:
        self.kubectl("label", "namespace", self.namespace, label)

    @staticmethod
    def _name(thing: Object) -> tuple[str, str]:
        return thing["kind"], thing["metadata"]["name"]


@pytest.fixture
def cluster(kubectl: Kubectl, namespace: str) -> Cluster:
    return Cluster(kubectl, namespace)


@pytest.fixture
def in_the_way(cluster: Cluster, door: Door, request: pytest.FixtureRequest) -> Iterator[Cause]:
    """The cause, effective now, and gone at the end."""
    cause = cluster.of_cause(request.param)
    with ExitStack() as undo:
        for thing in cause.objects:
            undo.callback(cluster.delete, thing)
            cluster.create(thing)
        if cause.label:
            cluster.label(f"{cause.label}=restricted")
        if cause.missing is not None:
            undo.callback(cluster.delete, cause.missing)

        def refuses() -> bool:
            answer = door.pod_refusal(cause.template)
            return answer is not None and cause.words in answer.message

        until(refuses, cause.words, lambda: door.pod_refusal(cause.template))
        yield cause


def remove(cause: Cause, cluster: Cluster) -> None:
    """Removes the cause of the refusal."""
    for thing in cause.objects:
        cluster.delete(thing)
    if cause.label:
        cluster.label(f"{cause.label}-")
    if cause.missing is not None:
        cluster.create(cause.missing)


@pytest.mark.newest
@pytest.mark.usefixtures("shared_operator")
@pytest.mark.parametrize("in_the_way", CAUSES.values(), ids=CAUSES, indirect=True)
def test_pod_is_created_in_the_same_run_when_the_cause_is_gone(
    in_the_way: Cause, cluster: Cluster, world: World, shared_ledger: Ledger
) -> None:
    world.create(pipeline().with_template(in_the_way.template))
    status = world.wait(
        "the refusal",
        lambda status: condition(status, "Ready")["reason"] == in_the_way.reason and status,
    )
    assert in_the_way.words in condition(status, "Ready")["message"]
    assert runs(status) == [(1, "Created", "")]
    other = {True: ("Stalled", "Reconciling"), False: ("Reconciling", "Stalled")}
    holds, absent = other[in_the_way.stalled]
    assert condition(status, holds)["reason"] == in_the_way.reason
    assert condition(status, absent)["status"] == ""

    remove(in_the_way, cluster)
    world.wait_for_pod(run=1)
    status = world.wait(
        "no Stalled", lambda s: condition(s, "Ready")["reason"] == "PodPending" and s
    )
    assert condition(status, "Stalled")["status"] == ""
    assert runs(status) == [(1, "Created", "")]
    writes = shared_ledger.at_rest()["patch initpipelines/status 200"]
    assert writes == 3, "the run, the refusal, and its end: a retry writes nothing"
