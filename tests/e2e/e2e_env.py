"""The environment of an end-to-end test."""

from dataclasses import dataclass
from typing import Any

from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, manifest
from tests.statuses import reason_of, run_number, status_of
from tests.watching import WatchLog


@dataclass(frozen=True)
class E2EEnv:
    """A namespace, with the recorded states of its pipelines and Pods."""

    namespace: str
    api: client.ApiClient
    pipelines: WatchLog
    pods: WatchLog

    def create(self, name: str, template: dict[str, Any], **policies: Any) -> None:
        """Create an InitPipeline with this Pod template and these other fields of the spec."""
        self._client.create(manifest(name, {"template": template, **policies}))

    def create_ready(self, name: str, template: dict[str, Any], **policies: Any) -> Raw:
        """Create an InitPipeline, and return its first state in which it is Ready."""
        self.create(name, template, **policies)
        return self.wait_ready(name, run=1)

    def create_pod(self, name: str, template: dict[str, Any]) -> None:
        """Create a Pod from this template, without an InitPipeline."""
        pod = {"metadata": {**template.get("metadata", {}), "name": name}, "spec": template["spec"]}
        self._core.create_namespaced_pod(self.namespace, pod)

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Apply a merge patch to an InitPipeline."""
        self._client.patch(name, patch)

    def delete(self, name: str, policy: str) -> None:
        """Delete an InitPipeline with this propagation policy."""
        self._client.delete(name, policy)

    def set(self, name: str, **fields: Any) -> None:
        """Change fields of an InitPipeline's spec."""
        self.patch(name, {"spec": fields})

    def request_run(self, name: str, token: str) -> None:
        """Request a run by the annotation, as a user does."""
        self.patch(name, {"metadata": {"annotations": {names.RERUN_ANNOTATION: token}}})

    def delete_pod(self, name: str, **options: Any) -> None:
        self._core.delete_namespaced_pod(name, self.namespace, **options)

    def pipeline(self, name: str) -> Raw:
        """Return the present state of the InitPipeline."""
        return self._client.get(name)

    def pod(self, name: str) -> Raw:
        """Return the present state of the Pod."""
        pod = self._core.read_namespaced_pod(name, self.namespace)
        raw: Raw = self.api.sanitize_for_serialization(pod)
        return raw

    def wait_ready(self, name: str, run: int) -> Raw:
        """Return the first state in which this run, or a later one, is Ready."""
        return self.pipelines.wait(
            name,
            f"run {run} is Ready",
            lambda state: run_number(state) >= run and status_of(state, "Ready") == "True",
        )

    def wait_reason(self, name: str, reason: str, run: int = 1) -> Raw:
        """Return the first state of this run in which the condition Ready has that reason."""
        return self.pipelines.wait(
            name,
            f"{reason} in run {run}",
            lambda state: run_number(state) == run and reason_of(state, "Ready") == reason,
        )

    def wait_gone(self, pod: str, uid: str) -> None:
        """Wait until the Pod with this UID is gone."""
        self.pods.wait(
            pod,
            "the Pod is gone",
            lambda state: state["event"] == "DELETED" and state["metadata"]["uid"] == uid,
        )

    @property
    def _client(self) -> Pipelines:
        return Pipelines(self.api, self.namespace)

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)
