"""Every state of one Pod that the API server told, for as long as it is recorded."""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from kubernetes import client, watch

Raw = dict[str, Any]

SECONDS = 120.0
"""How long a scenario may wait for what comes next."""

QUIET_SECONDS = 2.0
TURN_SECONDS = 1
"""How long one watch lasts; the next goes on where it ended, so that the end is noticed."""


class Recorder:
    """The Pods of one name, from before the first is created: states as they were told, each with
    when it came and its kind of event."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str) -> None:
        self.states: list[tuple[float, Raw]] = []
        self._core = client.CoreV1Api(api)
        self._where = (namespace, name)
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()

    def wait(self, what: str, condition: Callable[[Raw], bool]) -> Raw:
        """The first state, of all, that meets the condition."""
        deadline = time.monotonic() + SECONDS
        with self._changed:
            while True:
                for _, state in self.states:
                    if condition(state):
                        return state
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    last = self.states[-1:]
                    raise AssertionError(f"not within {SECONDS:.0f} s: {what}; last: {last}")

    def settle(self) -> None:
        """Return once nothing has been told for a while: the kubelet has said all it had to say."""
        with self._changed:
            while self._changed.wait(QUIET_SECONDS):
                pass

    def wait_gone(self) -> None:
        """Return once the Pod is gone."""
        self.wait("the Pod is gone", lambda state: state["event"] == "DELETED")

    def _follow(self) -> None:
        namespace, name = self._where
        listing = self._core.list_namespaced_pod
        selector = f"metadata.name={name}"
        since = listing(namespace, field_selector=selector).metadata.resource_version
        while not self._ended:
            stream = watch.Watch().stream(
                listing,
                namespace,
                field_selector=selector,
                resource_version=since,
                timeout_seconds=TURN_SECONDS,
            )
            for event in stream:
                state = {**event["raw_object"], "event": event["type"]}
                since = state["metadata"]["resourceVersion"]
                with self._changed:
                    self.states.append((time.monotonic(), state))
                    self._changed.notify_all()
