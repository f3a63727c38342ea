"""An HTTP proxy between clients and the API server that injects faults into single requests.

    with FaultProxy(folder) as proxy:
        kubeconfig = proxy.kubeconfig(cluster.kubeconfig_for("operator"))
        with proxy.inject(Answer(429, retry_after=2), method="POST", path="/pods") as rule:
            ...
        assert rule.hits == 1

The proxy is a server of aiohttp, with its client towards the API server. mitmproxy could do the
same, but it has forty dependencies of its own, and its addons cannot reset a connection.
"""

from tests.faultproxy.faults import (
    Answer,
    Cut,
    Fault,
    Insert,
    Latency,
    LostResponse,
    Reset,
    Silence,
    Slow,
    Truncated,
    Unanswered,
    WatchFault,
    error_event,
)
from tests.faultproxy.proxy import FaultProxy, Rule, Seen

__all__ = [
    "Answer",
    "Cut",
    "Fault",
    "FaultProxy",
    "Insert",
    "Latency",
    "LostResponse",
    "Reset",
    "Rule",
    "Seen",
    "Silence",
    "Slow",
    "Truncated",
    "Unanswered",
    "WatchFault",
    "error_event",
]
