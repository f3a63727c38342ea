"""What happened in a namespace, in the order in which the API server told it."""

import threading
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client, watch

from initpipeline.api import names

Object = dict[str, Any]

DEFAULT_SECONDS = 60.0
TURN_SECONDS = 1
"""How long one watch lasts; the next goes on where it ended. So the end of a test is noticed."""


class WatchLog:
    """Every state of every object of one kind in a namespace since the story began."""

    def __init__(self, list_function: Callable[..., Any], *arguments: str) -> None:
        self.states: list[Object] = []
        self._changed = threading.Condition()
        self._watch = watch.Watch()
        self._ended = False
        self._source = (list_function, arguments)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def all(self) -> list[Object]:
        """The states of all objects so far."""
        with self._changed:
            return list(self.states)

    def of(self, name: str) -> list[Object]:
        """The states of the object of this name, without those that tell the same again."""
        with self._changed:
            return [state for state in self.states if state["metadata"]["name"] == name]

    def until(self, name: str, last: Object) -> list[Object]:
        """The states of the object of this name up to one that was waited for."""
        states = self.of(name)
        return states[: states.index(last) + 1]

    def wait(
        self,
        name: str,
        what: str,
        condition: Callable[[Object], bool],
        seconds: float = DEFAULT_SECONDS,
    ) -> Object:
        """The first state of the object that meets the condition. Fails with its last state."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                for state in self.states[seen:]:
                    if state["metadata"]["name"] == name and condition(state):
                        return state
                seen = len(self.states)
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    last = self.of(name)[-1:]
                    raise AssertionError(f"{name}: not within {seconds} s: {what}; last: {last}")

    def end(self) -> None:
        """Listen no more. Nobody else may close the connection that the listener still reads."""
        self._ended = True
        self._thread.join()

    def _follow(self) -> None:
        function, arguments = self._source
        while not self._ended:
            seen = self._watch.resource_version
            since = {"resource_version": seen} if seen else {}
            for event in self._watch.stream(
                function, *arguments, timeout_seconds=TURN_SECONDS, **since
            ):
                state = event.get("raw_object") or event["object"]
                with self._changed:
                    self.states.append({**state, "event": event["type"]})
                    self._changed.notify_all()


def pipelines(api: client.ApiClient, namespace: str) -> WatchLog:
    """The story of the InitPipelines of a namespace."""
    function = client.CustomObjectsApi(api).list_namespaced_custom_object
    return WatchLog(function, names.GROUP, names.VERSION, namespace, names.PLURAL)


def pods(api: client.ApiClient, namespace: str) -> WatchLog:
    """The story of the Pods of a namespace."""
    return WatchLog(client.CoreV1Api(api).list_namespaced_pod, namespace)
