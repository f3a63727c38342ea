"""The operator as a process, on an API server where a test plays everybody else.

No kubelet and no scheduler run: a test binds the Pod and reports its status, step by step.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from kubernetes import client

from initpipeline.api import names
from tests.builders import NAME, PipelineBuilder, PodBuilder, pipeline
from tests.cluster.audit import requests

PATIENCE: Final = 15.0
QUIET: Final = 1.0
"""Seconds without a request after which nothing more is on its way."""

Object = dict[str, Any]


@dataclass(frozen=True)
class World:
    """One namespace, with the pipeline of the builders and its Pod in it."""

    api: client.ApiClient
    namespace: str

    @classmethod
    def new(cls, api: client.ApiClient) -> Self:
        """In a namespace of its own."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        return cls(api, name)

    def create(self, builder: PipelineBuilder | None = None) -> None:
        raw = (builder or pipeline()).raw()
        body = {
            "apiVersion": raw["apiVersion"],
            "kind": raw["kind"],
            "metadata": {"name": NAME},
            "spec": raw["spec"],
        }
        self._custom.create_namespaced_custom_object(*self._place, body)

    def patch(self, change: Mapping[str, Any]) -> None:
        """Change the pipeline as a person would, by a merge patch."""
        self._custom.patch_namespaced_custom_object(*self._place, NAME, dict(change))

    def delete(self, policy: str) -> None:
        self._custom.delete_namespaced_custom_object(
            *self._place, NAME, body={"propagationPolicy": policy}
        )

    def pipeline(self) -> Object | None:
        found = _found(lambda: self._custom.get_namespaced_custom_object(*self._place, NAME))
        return None if found is None else dict(found)

    def pod(self) -> Object | None:
        read = self._core.read_namespaced_pod
        found = _found(lambda: read(NAME, self.namespace))
        return None if found is None else dict(self.api.sanitize_for_serialization(found))

    def status(self) -> Object:
        found = self.pipeline()
        return found.get("status", {}) if found else {}

    def bind(self) -> None:
        """The scheduler gives the Pod a node."""
        body = {
            "metadata": {"name": NAME},
            "target": {"kind": "Node", "name": "node-1"},
        }
        create = self._core.create_namespaced_pod_binding
        create(NAME, self.namespace, body, _preload_content=False)

    def report(self, builder: PodBuilder) -> None:
        """The kubelet reports this state of the Pod."""
        body = {"status": builder.raw()["status"]}
        self._core.patch_namespaced_pod_status(NAME, self.namespace, body)

    def delete_pod(self, grace_seconds: int = 0) -> None:
        """Without grace it is gone when this returns. With some, it terminates until then: its
        kubelet is the test."""
        delete = self._core.delete_namespaced_pod
        delete(NAME, self.namespace, grace_period_seconds=grace_seconds)

    def wait(self, what: str, condition: Callable[[Object], Any], seconds: float = PATIENCE) -> Any:
        """Until the pipeline's status meets the condition. Returns what the condition returned."""
        return until(lambda: condition(self.status()), what, self.status, seconds)

    def wait_for_pod(self, run: int) -> Object:
        """The Pod of that run."""

        def there() -> Object | None:
            pod = self.pod()
            of_run = pod and pod["metadata"]["annotations"][names.RUN_ANNOTATION] == str(run)
            return pod if of_run else None

        pod: Object = until(there, f"the Pod of run {run}", self.status)
        return pod

    def live(self, *states: PodBuilder, run: int = 1) -> None:
        """The Pod of a run is scheduled and goes through these states; each is waited for."""
        self.wait_for_pod(run)
        self.bind()
        for state in states:
            self.report(state)
            reported = [c["state"] for c in state.raw()["status"]["initContainerStatuses"]]
            self.wait(f"the mirror of {reported}", _Mirror(reported))

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @property
    def _custom(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.api)

    @property
    def _place(self) -> tuple[str, str, str, str]:
        return names.GROUP, names.VERSION, self.namespace, names.PLURAL


@dataclass
class Ledger:
    """What one user asked of the API server about one namespace, or about all where it is empty.
    Watches are left out: they are answered when they end."""

    log: Path
    user: str
    namespace: str = ""
    _offset: int = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Count from now on."""
        self._offset = self.log.stat().st_size

    def counts(self) -> Counter[str]:
        """How often each kind of request was answered."""
        return Counter(
            f"{one.verb} {'/'.join(filter(None, [one.resource, one.subresource]))} {one.code}"
            for one in requests(self.log, self._offset)
            if one.user == self.user
            and self.namespace in ("", one.namespace)
            and one.verb != "watch"
        )

    def at_rest(self, quiet: float = QUIET) -> Counter[str]:
        """The same, once nothing more was asked for that long."""
        deadline = time.monotonic() + PATIENCE
        before, since = self.counts(), time.monotonic()
        while time.monotonic() - since < quiet:
            assert time.monotonic() < deadline, f"never comes to rest: {before}"
            time.sleep(0.1)
            if (now := self.counts()) != before:
                before, since = now, time.monotonic()
        return before


def until(
    condition: Callable[[], Any],
    what: str,
    state: Callable[[], Any],
    seconds: float = PATIENCE,
) -> Any:
    """Wait until it holds; what it returned. Fails with the state that it was in last."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {state()}"
        time.sleep(0.03)
    return result


@dataclass(frozen=True)
class _Mirror:
    """Whether a status shows these states of the init containers."""

    states: list[Object]

    def __call__(self, status: Object) -> bool:
        return [c["state"] for c in status.get("initContainerStatuses", [])] == self.states


def ready(status: Object) -> bool:
    return bool(condition(status, "Ready")["status"] == "True")


def condition(status: Object, type_: str) -> Object:
    said = [c for c in status.get("conditions", []) if c["type"] == type_]
    return said[0] if said else {"status": "", "reason": "", "message": ""}


def runs(status: Object) -> list[tuple[int, str, str]]:
    """Number, trigger and result of all runs, the current one last, without a result."""
    past = [(r["number"], r["trigger"], r["result"]) for r in reversed(status.get("history", []))]
    run = status.get("run")
    if run and run["number"] not in [number for number, _, _ in past]:
        past.append((run["number"], run["trigger"], ""))
    return past


def _found(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
