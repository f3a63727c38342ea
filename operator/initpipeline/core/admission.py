"""What the API server means when it refuses to create a Pod."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api.reasons import Reason
from initpipeline.core.facts import Refusal

REASONS: Final = frozenset(
    {
        Reason.INVALID_TEMPLATE,
        Reason.POD_FORBIDDEN,
        Reason.QUOTA_EXCEEDED,
        Reason.QUOTA_REQUIRES_RESOURCES,
    }
)
"""The reasons of a refusal."""

NOT_CREATED: Final = REASONS | {Reason.NAME_CONFLICT}
"""The reasons why a run has no Pod although the operator tried to create it."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One kind of refusal: the HTTP codes and the message by which it is recognized."""

    reason: Reason
    codes: frozenset[int] = frozenset()
    """Empty: any code. A webhook answers with the code that its author chose."""
    words: str = ""
    """A regular expression, searched in the message. It is anchored or starts with fixed text, so
    that the time to search is linear in the length of the message."""

    def matches(self, code: int, message: str) -> bool:
        if self.codes and code not in self.codes:
            return False
        return re.search(self.words, message) is not None


_FORBIDDEN: Final = frozenset({403})
_INTERNAL: Final = frozenset({500})

_ROWS: Final = (
    # ResourceQuota.
    _Row(Reason.QUOTA_EXCEEDED, _FORBIDDEN, "is forbidden: exceeded quota: "),
    _Row(Reason.QUOTA_REQUIRES_RESOURCES, _FORBIDDEN, "is forbidden: failed quota: "),
    # The admission configuration requires a quota for this priority class, and there is none.
    _Row(Reason.POD_FORBIDDEN, words="^insufficient quota to match these scopes: "),
    # Webhooks and policies, whatever code they chose.
    _Row(Reason.POD_FORBIDDEN, words='^admission webhook "'),
    _Row(Reason.POD_FORBIDDEN, words='^(Internal error occurred: )?failed calling webhook "'),
    _Row(Reason.POD_FORBIDDEN, words="is forbidden: ValidatingAdmissionPolicy '"),
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

    None: the answer is not a refusal of this Pod, but reports a fault of the API server or of the
    connection, or is about something else.

    Each refusal may end without a change of the InitPipeline. Quotas, LimitRanges, policies and
    webhooks change on their own. The API server validates the Pod after admission has changed it,
    so the cause of an invalid Pod may be outside of the template as well.
    """
    message = str(status.get("message") or "")
    if code == 403 and namespace_terminating(status):
        return None
    reason = next((row.reason for row in _ROWS if row.matches(code, message)), None)
    return None if reason is None else Refusal(reason, message)


def namespace_terminating(status: Mapping[str, Any]) -> bool:
    """Whether this metav1.Status says that nothing can be created in a namespace any more."""
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
