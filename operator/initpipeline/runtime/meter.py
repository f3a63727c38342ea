"""What the parts of the operator report to its metrics. Without ``--metrics-address``, nothing is
recorded, and the packages of the metrics are not imported. runtime.metrics records."""

from initpipeline.api.models import InitPipelineStatus


class Meter:
    """Ignores everything. All durations are in seconds."""

    def request(self, method: str, path: str, code: str, seconds: float) -> None:
        """Record a request to the API server. ``code`` is "<error>" if there was no response. For a
        watch, ``seconds`` end when the API server accepts it."""

    def queued(self) -> None:
        """Record that a key was added to the queue."""

    def retried(self) -> None:
        """Record that a key was requeued with back-off."""

    def taken(self, seconds: float) -> None:
        """Record that a worker took a key. ``seconds`` is how long the key had waited."""

    def worked(self, seconds: float) -> None:
        """Record that a worker has finished with a key. ``seconds`` is how long it had the key."""

    def reconciled(self, result: str, seconds: float) -> None:
        """Record a reconcile. ``result`` is an Outcome of runtime.queue, or error (no answer, or an
        error of the API server), or poisoned (an exception of the operator)."""

    def status_written(
        self, before: InitPipelineStatus, after: InitPipelineStatus, seconds: float
    ) -> None:
        """Record a write of status. ``seconds`` is the time since the change was added to the
        queue."""

    def event(self, outcome: str) -> None:
        """Record an Event. ``outcome`` is posted, series or dropped."""

    def watch_ended(self, resource: str, why: str) -> None:
        """Record that a watch must be opened again. ``why`` is an End of runtime.probes."""

    def missed_deletions(self, resource: str, count: int) -> None:
        """Record how many deletions a sweep found that no watch had reported."""

    def swept(self, resource: str) -> None:
        """Record a successful sweep of a resource in all namespaces that are served."""

    def compared(self, missing: int, unknown: int) -> None:
        """Record a comparison of the CRD: how many fields it lacks, and how many the operator does
        not know."""
