"""The values of the metrics' labels.

No label has the name of a pipeline, Pod, step or namespace, and each value is one of a fixed list.
So the number of series does not depend on the number of pipelines, and no user can choose a value.
"""

import re
from typing import Final

from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger

QUEUE: Final = "initpipeline"
"""The name of the work queue."""
OTHER: Final = "Other"
"""The value of a label for everything that is not in its list."""

_RESOURCES: Final = frozenset(
    {
        "initpipelines",
        "initpipelines/status",
        "pods",
        "events",
        "leases",
        "customresourcedefinitions",
        "selfsubjectaccessreviews",
    }
)
_PATH: Final = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/[^/]+)?/(?P<resource>[a-z]+)(?:/[^/]+)?(?P<sub>/status)?"
)
_CODES: Final = frozenset(
    {"<error>"}
    | {"200", "201", "202", "400", "401", "403", "404", "405", "406", "409", "410", "413", "415"}
    | {"422", "429", "500", "502", "503", "504"}
)
"""What an API server or a load balancer answers. An admission webhook can choose any code, such as
418."""
METHODS: Final = frozenset({"GET", "POST", "PATCH", "DELETE", "PUT"})
CONDITIONS: Final = frozenset(type_.value for type_ in ConditionType)
STATUSES: Final = frozenset({"True", "False", "Unknown"})
TRIGGERS: Final = frozenset(trigger.value for trigger in Trigger)
RESULTS: Final = frozenset(result.value for result in Result)
_REASONS: Final = frozenset(reason.value for reason in Reason)


def known(value: str, values: frozenset[str]) -> str:
    """Returns the value. "Other": it is not one of these values. A newer version of the operator
    may have written it, and so may a user who can write status."""
    return value if value in values else OTHER


def resource_of(path: str) -> str:
    """Returns the resource of a request's path. "Other": it is not one that the operator uses."""
    match = _PATH.match(path)
    return known(f"{match['resource']}{match['sub'] or ''}" if match else "", _RESOURCES)


def known_code(code: str) -> str:
    """Returns the code of a response, or its class, such as "4xx"."""
    return code if code in _CODES else f"{code[:1]}xx"


def known_reason(reason: str | None) -> str:
    """Returns a reason of the API. "": no reason is set. "Other": it is not one of the API's, for
    example a reason of a kubelet."""
    return known(reason, _REASONS) if reason else ""
