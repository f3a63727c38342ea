"""What the API server means when it refuses to create a Pod."""

from collections.abc import Mapping
from typing import Any

from initpipeline.api.reasons import Reason
from initpipeline.core.facts import Refusal


def classify(code: int, status: Mapping[str, Any]) -> Refusal | None:
    """The refusal that an HTTP code and a metav1.Status express.

    None: not a refusal, but a fault of the server or of the way there, or an answer about something
    else than this Pod.

    Admission says no in several voices: RBAC, Pod Security and most webhooks with 403, a
    ValidatingAdmissionPolicy with 422, a webhook with whatever code it likes, or, when it does not
    answer, with 500. Policies, webhooks and quotas change without the Pod; only the API's own
    validation is final.
    """
    message = str(status.get("message") or "")
    if code == 403 and namespace_terminating(status):
        return None
    if code == 403 and ("exceeded quota" in message or "failed quota" in message):
        return Refusal(Reason.QUOTA_EXCEEDED, message, final=False)
    if "webhook" in message or "ValidatingAdmissionPolicy" in message or code == 403:
        return Refusal(Reason.POD_FORBIDDEN, message, final=False)
    if code in {400, 413, 422}:
        return Refusal(Reason.INVALID_TEMPLATE, message, final=True)
    return None


def namespace_terminating(status: Mapping[str, Any]) -> bool:
    """Whether this metav1.Status says that nothing can be created in a namespace any more."""
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
