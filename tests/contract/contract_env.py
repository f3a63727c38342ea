"""The environment of a test: a namespace on a real API server, and counts of requests.

No scheduler and no kubelet run. The test binds the Pod and reports its status instead.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, manifest
from tests.builders import NAME, PipelineBuilder, PodBuilder, pipeline
from tests.cluster.audit import requests
from tests.poll import poll_until, poll_until_stable

TIMEOUT_SECONDS: Final = 15.0
"""The longest wait for something that the operator or the API server does."""
QUIET_SECONDS: Final = 1.0
"""Time without requests after which the operator is at rest."""


def create_namespace(api: client.ApiClient) -> str:
    """Create a namespace with a unique name. Returns the name."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
    return name


@dataclass(frozen=True)
class ContractEnv:
    """One namespace with the pipeline of the builders and its Pod."""

    api: client.ApiClient
    namespace: str

    @classmethod
    def new(cls, api: client.ApiClient) -> Self:
        """Returns an environment in a new namespace."""
        return cls(api, create_namespace(api))

    def create(self, builder: PipelineBuilder | None = None) -> None:
        """Create the pipeline."""
        self.pipelines.create(manifest(NAME, (builder or pipeline()).raw()["spec"]))

    def patch(self, change: Mapping[str, Any]) -> None:
        """Change the pipeline with a JSON merge patch, as a user would."""
        self.pipelines.patch(NAME, dict(change))

    def delete(self, policy: str) -> None:
        """Delete the pipeline with this propagation policy."""
        self.pipelines.delete(NAME, policy)

    def pipeline(self) -> Raw | None:
        """Returns the pipeline. None: it does not exist."""
        raw: Raw | None = _read(lambda: self.pipelines.get(NAME))
        return raw

    def pod(self) -> Raw | None:
        """Returns the Pod. None: it does not exist."""
        read = self._core.read_namespaced_pod
        pod = _read(lambda: read(NAME, self.namespace))
        return None if pod is None else dict(self.api.sanitize_for_serialization(pod))

    def status(self) -> Raw:
        """Returns the pipeline's status. Empty if it is not set."""
        raw = self.pipeline()
        return raw.get("status", {}) if raw else {}

    def bind(self) -> None:
        """Assign a node to the Pod, as the scheduler would."""
        body = {
            "metadata": {"name": NAME},
            "target": {"kind": "Node", "name": "node-1"},
        }
        create = self._core.create_namespaced_pod_binding
        create(NAME, self.namespace, body, _preload_content=False)

    def report(self, builder: PodBuilder) -> None:
        """Report a status of the Pod, as the kubelet would."""
        self.report_status(builder.raw()["status"])

    def report_status(self, status: Raw) -> None:
        """Report this status of the Pod, as the kubelet would."""
        body = {"status": status}
        self._core.patch_namespaced_pod_status(NAME, self.namespace, body)

    def delete_pod(self, grace_seconds: int = 0) -> None:
        """Delete the Pod. With a grace period, the Pod remains until the test deletes it without
        one, as the kubelet would."""
        delete = self._core.delete_namespaced_pod
        delete(NAME, self.namespace, grace_period_seconds=grace_seconds)

    def wait(
        self, what: str, condition: Callable[[Raw], Any], timeout: float = TIMEOUT_SECONDS
    ) -> Any:
        """Wait until the pipeline's status meets the condition. Returns what the condition
        returned."""
        return poll_until(lambda: condition(self.status()), timeout, what, state=self.status)

    def wait_for_pod(self, run: int) -> Raw:
        """Wait for the Pod of this run. Returns it."""

        def pod_of_run() -> Raw | None:
            pod = self.pod()
            matches = pod and pod["metadata"]["annotations"][names.RUN_ANNOTATION] == str(run)
            return pod if matches else None

        what = f"the Pod of run {run}"
        pod = poll_until(pod_of_run, TIMEOUT_SECONDS, what, state=self.status)
        assert pod is not None
        return pod

    def run_pod(self, *states: PodBuilder, run: int = 1) -> None:
        """Bind the Pod of a run and report these states. Waits until status mirrors each."""
        self.wait_for_pod(run)
        self.bind()
        for state in states:
            self.report(state)
            expected = [c["state"] for c in state.raw()["status"]["initContainerStatuses"]]
            self.wait(f"the mirror of {expected}", _Mirrors(expected))

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @property
    def pipelines(self) -> Pipelines:
        """All InitPipelines of the namespace."""
        return Pipelines(self.api, self.namespace)


@dataclass
class RequestCounter:
    """Counts the requests of one user in one namespace, from the audit log. Watches are left out,
    because the API server logs them when they end, and so are the renewals of the Lease."""

    log: Path
    user: str
    namespace: str = ""
    """Empty: requests in all namespaces count."""
    _offset: int = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count only later requests."""
        self._offset = self.log.stat().st_size

    def counts(self) -> Counter[str]:
        """Returns the number of requests by verb, resource and response code."""
        return Counter(
            f"{one.verb} {'/'.join(filter(None, [one.resource, one.subresource]))} {one.code}"
            for one in requests(self.log, self._offset)
            if one.user == self.user
            and self.namespace in ("", one.namespace)
            and one.verb != "watch"
            and one.resource != "leases"
        )

    def counts_at_rest(self, quiet: float = QUIET_SECONDS) -> Counter[str]:
        """Wait until there was no request for ``quiet`` seconds. Returns the counts."""
        return poll_until_stable(self.counts, quiet, TIMEOUT_SECONDS, "no more requests")


@dataclass(frozen=True)
class _Mirrors:
    """A condition: the status mirrors these states of the init containers."""

    states: list[Raw]

    def __call__(self, status: Raw) -> bool:
        return [c["state"] for c in status.get("initContainerStatuses", [])] == self.states


def _read(read: Callable[[], Any]) -> Any:
    """Returns the object. None: it does not exist."""
    try:
        return read()
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
