"""When what happened to each object of a burst, and what that amounts to.

All times are seconds of the load generator's monotonic clock, all results milliseconds or seconds
as their names say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.stats import percentile
from tests.bench.workloads import Form, Workload, pod_finished, pod_initialized


@dataclass
class Times:
    """Of one object."""

    sent: float | None = None
    """Its POST was sent."""
    answered: float | None = None
    """Its POST was answered."""
    pod: float | None = None
    """Its Pod was first seen on a watch."""
    pod_initialized: float | None = None
    """The Pod was first seen initialized."""
    told_initialized: float | None = None
    """The owner was first seen to say so."""
    pod_finished: float | None = None
    """The Pod was first seen to have ended."""
    told_finished: float | None = None
    """The owner was first seen to say so."""


class Timeline:
    """The times of all objects of one burst."""

    def __init__(self, workload: Workload, form: Form, names: Sequence[str]) -> None:
        self._workload = workload
        self._form = form
        self._times = {name: Times() for name in names}
        self.without_pod = set(names)
        """The objects whose Pod has not been seen."""
        self.unfinished = set(names) if form is Form.LIFE else set()
        """The objects of whose end not both have been seen: the Pod's, and the owner's word."""

    def of(self, name: str) -> Times:
        """The times of one object."""
        return self._times[name]

    def pod_changed(self, pod: dict[str, Any], now: float) -> None:
        """A Pod is so now."""
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
        """An InitPipeline or a Job is so now."""
        name, status = owner["metadata"]["name"], owner.get("status") or {}
        times = self._times.get(name)
        if times is None:
            return
        says_initialized = self._workload.says_initialized
        if says_initialized and says_initialized(status):
            times.told_initialized = times.told_initialized or now
        if self._workload.says_finished(status):
            times.told_finished = times.told_finished or now
        self._check(name, times)

    def _check(self, name: str, times: Times) -> None:
        if times.pod_finished is not None and times.told_finished is not None:
            self.unfinished.discard(name)

    def figures(self) -> dict[str, float]:
        """What a complete burst amounts to, by the figure's key."""
        began = min(self._column("sent"))
        to_pod = self._between("sent", "pod")
        figures = {
            "pod_p50_ms": percentile(to_pod, 50),
            "pod_p99_ms": percentile(to_pod, 99),
            "post_p50_ms": percentile(self._between("sent", "answered"), 50),
            "pods_per_second": len(self._times) / (max(self._column("pod")) - began),
        }
        if self._form is Form.LIFE:
            figures["all_finished_s"] = max(self._column("told_finished")) - began
            finished = self._between("pod_finished", "told_finished")
            figures["finished_lag_p50_ms"] = percentile(finished, 50)
            figures["finished_lag_p99_ms"] = percentile(finished, 99)
        if self._form is Form.LIFE and self._workload.says_initialized:
            initialized = self._between("pod_initialized", "told_initialized")
            figures["initialized_lag_p50_ms"] = percentile(initialized, 50)
            figures["initialized_lag_p99_ms"] = percentile(initialized, 99)
        return figures

    def _column(self, field: str) -> list[float]:
        return [getattr(times, field) for times in self._times.values()]

    def _between(self, since: str, until: str) -> list[float]:
        """Milliseconds. At least 0: two watches may tell in either order."""
        pairs = zip(self._column(since), self._column(until), strict=True)
        return [max((end - start) * 1000, 0.0) for start, end in pairs]
