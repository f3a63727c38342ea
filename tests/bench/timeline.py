"""The times of events of each object of a batch, and the figures computed from them.

All times are seconds of the load generator's monotonic clock. The names of figures end with their
unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.stats import percentile
from tests.bench.workloads import Form, Workload, pod_finished, pod_initialized


@dataclass
class Times:
    """The times of one object."""

    sent: float | None = None
    """Its POST was sent."""
    answered: float | None = None
    """Its POST was answered."""
    pod: float | None = None
    """A watch first reported its Pod."""
    pod_initialized: float | None = None
    """A watch first reported that the Pod is initialized."""
    owner_initialized: float | None = None
    """A watch first reported the same in the owner's status."""
    pod_finished: float | None = None
    """A watch first reported that the Pod has completed."""
    owner_finished: float | None = None
    """A watch first reported the same in the owner's status."""


class Timeline:
    """The times of all objects of one batch."""

    def __init__(self, workload: Workload, form: Form, names: Sequence[str]) -> None:
        self._workload = workload
        self._form = form
        self._times = {name: Times() for name in names}
        self.without_pod = set(names)
        """The objects whose Pod has not been observed."""
        self.unfinished = set(names) if form is Form.LIFE else set()
        """The objects whose completion has not been observed in both the Pod and the owner."""

    def of(self, name: str) -> Times:
        """Return the times of one object."""
        return self._times[name]

    def pod_changed(self, pod: dict[str, Any], now: float) -> None:
        """Record the state of a Pod, observed at the time `now`."""
        name = pod["metadata"].get("ownerReferences", [{}])[0].get("name", "")
        times = self._times.get(name)
        if times is None:
            return
        times.pod = times.pod or now
        self.without_pod.discard(name)
        if pod_initialized(pod["status"]):
            times.pod_initialized = times.pod_initialized or now
        if pod_finished(pod["status"]):
            times.pod_finished = times.pod_finished or now
        self._check(name, times)

    def owner_changed(self, owner: dict[str, Any], now: float) -> None:
        """Record the state of an InitPipeline or a Job, observed at the time `now`."""
        name, status = owner["metadata"]["name"], owner.get("status") or {}
        times = self._times.get(name)
        if times is None:
            return
        initialized = self._workload.initialized
        if initialized and initialized(status):
            times.owner_initialized = times.owner_initialized or now
        if self._workload.finished(status):
            times.owner_finished = times.owner_finished or now
        self._check(name, times)

    def _check(self, name: str, times: Times) -> None:
        if times.pod_finished is not None and times.owner_finished is not None:
            self.unfinished.discard(name)

    def throughput(self) -> dict[str, float]:
        """Return the figures of a complete batch whose pace only the controller limits."""
        began = min(self._column("sent"))
        figures = {"pods_per_second": len(self._times) / (max(self._column("pod")) - began)}
        if self._form is Form.LIFE:
            figures["all_finished_s"] = max(self._column("owner_finished")) - began
        return figures

    def latencies(self) -> dict[str, float]:
        """Return the figures of a complete batch at any pace."""
        to_pod = self._between("sent", "pod")
        figures = {
            "pod_p50_ms": percentile(to_pod, 50),
            "pod_p99_ms": percentile(to_pod, 99),
            "post_p50_ms": percentile(self._between("sent", "answered"), 50),
        }
        if self._form is Form.LIFE:
            finished = self._between("pod_finished", "owner_finished")
            figures["finished_lag_p50_ms"] = percentile(finished, 50)
            figures["finished_lag_p99_ms"] = percentile(finished, 99)
        if self._form is Form.LIFE and self._workload.initialized:
            initialized = self._between("pod_initialized", "owner_initialized")
            figures["initialized_lag_p50_ms"] = percentile(initialized, 50)
            figures["initialized_lag_p99_ms"] = percentile(initialized, 99)
        return figures

    def _column(self, field: str) -> list[float]:
        return [getattr(times, field) for times in self._times.values()]

    def _between(self, since: str, until: str) -> list[float]:
        """Return the intervals in ms. At least 0, since the order of two watches is undefined."""
        pairs = zip(self._column(since), self._column(until), strict=True)
        return [max((end - start) * 1000, 0.0) for start, end in pairs]
