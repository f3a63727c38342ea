"""Why a run has no Pod: the API server's refusals by kind, the operator's own refusals, and
requests that failed for another cause.

The operator's own refusals have the messages of manifests/base/admission.yaml. They are needed if
that policy is not installed, or if a spec was stored before it was.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api.itempaths import MOST_ITEMS, number_of_items
from initpipeline.api.models import Policies
from initpipeline.api.names import RUN_GATE
from initpipeline.api.reasons import Reason
from initpipeline.core import lenient
from initpipeline.core.containers import Container, init_containers
from initpipeline.core.facts import Pipeline, Refusal

REASONS: Final = frozenset(
    {
        Reason.INVALID_TEMPLATE,
        Reason.POD_FORBIDDEN,
        Reason.QUOTA_EXCEEDED,
        Reason.QUOTA_REQUIRES_RESOURCES,
        Reason.POD_REQUEST_FAILED,
    }
)
"""The reasons why the operator tries to create a Pod again."""

NOT_CREATED: Final = REASONS | {Reason.NAME_CONFLICT}
"""The reasons why a run has no Pod although the operator tried to create it."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One kind of refusal: the HTTP codes and the message by which it is recognized."""

    reason: Reason
    codes: frozenset[int] = frozenset()
    """Empty: any code. A webhook answers with the code that its author chose."""
    pattern: str = ""
    """A regular expression, searched in the message. It is anchored or starts with fixed text, so
    that the time to search is linear in the length of the message."""

    def matches(self, code: int, message: str) -> bool:
        if self.codes and code not in self.codes:
            return False
        return re.search(self.pattern, message) is not None


_BY_ADMISSION: Final = (
    '^(admission|(Internal error occurred: )?failed calling) webhook "'
    "|is forbidden: ValidatingAdmissionPolicy '"
)
_FORBIDDEN: Final = frozenset({403})
_INTERNAL: Final = frozenset({500})

_ROWS: Final = (
    # ResourceQuota.
    _Row(Reason.QUOTA_EXCEEDED, _FORBIDDEN, "is forbidden: exceeded quota: "),
    _Row(Reason.QUOTA_REQUIRES_RESOURCES, _FORBIDDEN, "is forbidden: failed quota: "),
    # The admission configuration requires a quota for this priority class. The namespace has
    # no such quota.
    _Row(Reason.POD_FORBIDDEN, pattern="^insufficient quota to match these scopes: "),
    # Webhooks and policies. Their authors choose the code.
    _Row(Reason.POD_FORBIDDEN, pattern=_BY_ADMISSION),
    # RBAC, Pod Security, LimitRange, and all other admission plugins.
    _Row(Reason.POD_FORBIDDEN, _FORBIDDEN),
    # An admission plugin that failed, such as a webhook whose patch does not fit the Pod.
    _Row(Reason.POD_FORBIDDEN, _INTERNAL, "^Internal error occurred: "),
    # Validation of the Pod as admission has left it.
    _Row(Reason.INVALID_TEMPLATE, frozenset({400, 413, 422})),
)
"""The first row that matches decides. The messages are those of Kubernetes 1.30 to 1.36."""


def classify(code: int, status: Mapping[str, Any]) -> Refusal | None:
    """Returns the refusal that an HTTP code and a metav1.Status express.

    None: the error is not about this Pod, because the API server or the connection failed, or the
    namespace is terminating.

    The API server may accept the Pod later without a change of the InitPipeline, because quotas,
    LimitRanges, policies and webhooks change independently. The API server validates the Pod after
    admission has changed it, so the cause of an invalid Pod may be outside of the template as well.
    """
    message = str(status.get("message") or "")
    if code == 403 and namespace_terminating(status):
        return None
    reason = next((row.reason for row in _ROWS if row.matches(code, message)), None)
    if reason is None:
        return None
    # A proxy before the API server may send no metav1.Status.
    return Refusal(
        reason, message or f"the API server answered with HTTP status {code} and no message"
    )


_NOT_CARRIED_OUT: Final = frozenset({401, 409, 429})
"""The HTTP codes with which the API server reports that it has not carried out the request. After a
code from 500, such as 504 for a timeout, or without an answer, it may have carried it out."""


def failed_request(code: int | None, error: str) -> Refusal:
    """Returns what status reports if the creation of the Pod failed, but not because of this Pod.
    The HTTP code None: there was no answer."""
    outcome = "" if code in _NOT_CARRIED_OUT else ", but the Pod may exist or appear"
    message = f"the request to create the Pod failed{outcome}: {error}"
    return Refusal(Reason.POD_REQUEST_FAILED, message)


def is_denied(message: str) -> bool:
    """Returns whether the message of a 403 reports that the operator lacks a permission. Admission
    plugins use the same code, but do not name the user."""
    return re.search('is forbidden: User ".*" cannot ', message) is not None


def is_by_admission(message: str) -> bool:
    """Returns whether the message reports that a policy or an admission webhook denied the request,
    or that the webhook failed. If one denied the request, its author chose the HTTP code."""
    return re.search(_BY_ADMISSION, message) is not None


def namespace_terminating(status: Mapping[str, Any]) -> bool:
    """Returns whether this metav1.Status reports that the namespace is being deleted."""
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


_NO_SIDECAR = "without restartPolicy=Always"


def refusal_of_spec(pipeline: Pipeline) -> Refusal | None:
    """Returns why no Pod is created for this pipeline. None: its spec is valid.

    The refusal is final: only a changed spec helps. Several mistakes are written as the API server
    writes them: ``[first, second]``.
    """
    template = pipeline.template
    containers = init_containers(template["spec"])
    errors = [
        *_step_errors(containers),
        *_init_policy_errors(pipeline.policies, containers),
        *_gate_errors(template["spec"]),
        *_size_errors(template),
    ]
    if not errors:
        return None
    message = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    return Refusal(Reason.INVALID_TEMPLATE, message, final=True)


def _step_errors(containers: tuple[Container, ...]) -> Iterator[str]:
    """Yields an error if all init containers are sidecars. No step would complete: the pipeline
    would be initialized when the sidecars have started."""
    if all(container.sidecar for container in containers):
        yield (
            "spec.template.spec.initContainers: Required value: "
            f"must have at least one init container {_NO_SIDECAR}"
        )


def _init_policy_errors(policies: Policies, containers: tuple[Container, ...]) -> Iterator[str]:
    """Yields an error for each item of initPolicies whose container does not exist or is a sidecar.
    Such an item would never apply, and the user would not notice."""
    sidecars = {container.name: container.sidecar for container in containers}
    names = [policy.name for policy in policies.init_policies]
    for index, name in enumerate(names):
        if name not in sidecars:
            yield f'spec.initPolicies[{index}].name: Not found: "{name}"'
    for index, name in enumerate(names):
        if sidecars.get(name):
            yield (
                f'spec.initPolicies[{index}].name: Invalid value: "{name}": '
                f"must be an init container {_NO_SIDECAR}"
            )


def _gate_errors(pod_spec: Mapping[str, Any]) -> Iterator[str]:
    """Yields an error if the template has the operator's scheduling gate. Without
    --scheduling-gate, the operator may lack the permission to remove it, and the Pod would never be
    scheduled."""
    gates = lenient.mappings(pod_spec.get("schedulingGates"))
    if any(gate.get("name") == RUN_GATE for gate in gates):
        yield (
            f'spec.template.spec.schedulingGates: Forbidden: may not have "{RUN_GATE}", '
            "which the operator sets"
        )


def _size_errors(template: Mapping[str, Any]) -> Iterator[str]:
    """Yields an error if the template has too many list items and map entries. The API server
    decodes those of all InitPipelines one after the other."""
    items = number_of_items(template)
    if items > MOST_ITEMS:
        yield (
            f"spec.template: Too many: {items}: must have at most {MOST_ITEMS} list items and map "
            "entries in total: move variables to a ConfigMap, and arguments to a script"
        )
