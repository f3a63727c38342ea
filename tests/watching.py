"""Record the states of objects in a namespace, in the order in which the API server sent them."""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from kubernetes import client, watch

from initpipeline.api import names
from initpipeline.api.raw import Raw

DEFAULT_SECONDS = 60.0
WATCH_SECONDS = 1
"""The duration of one watch request. The thread ends after the current one."""


class WatchLog:
    """Every state of every object of one kind in a namespace since the log was created.

    Each state has the additional key "event", with the type of the watch event.
    """

    def __init__(
        self,
        list_function: Callable[..., Any],
        *arguments: str,
        listener: Callable[[Raw], object] | None = None,
    ) -> None:
        """Start to watch. The listener is called for each state, in the thread of the watch."""
        self.states: list[Raw] = []
        self.times: list[float] = []
        """The time of each state's arrival, in seconds of the monotonic clock."""
        self.error: Exception | None = None
        """The error with which the watch has failed."""
        self._listener = listener
        self._changed = threading.Condition()
        self._watch = watch.Watch()
        self._ended = False
        self._source = (list_function, arguments)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def all(self) -> list[Raw]:
        """Return the states of all objects so far."""
        with self._changed:
            return list(self.states)

    def of(self, name: str) -> list[Raw]:
        """Return the states of the object of this name."""
        with self._changed:
            return [state for state in self.states if state["metadata"]["name"] == name]

    def until(self, name: str, last: Raw) -> list[Raw]:
        """Return the states of the object of this name up to the given one, inclusively."""
        states = self.of(name)
        return states[: states.index(last) + 1]

    def wait(
        self,
        name: str,
        what: str,
        condition: Callable[[Raw], bool],
        seconds: float = DEFAULT_SECONDS,
    ) -> Raw:
        """Return the first state of the object for which the condition is true.

        Raise AssertionError with the last state after `seconds`.
        """
        deadline = time.monotonic() + seconds
        checked = 0
        with self._changed:
            while True:
                for state in self.states[checked:]:
                    if state["metadata"]["name"] == name and condition(state):
                        return state
                checked = len(self.states)
                if self.error:
                    raise AssertionError(f"{name}: the watch failed") from self.error
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    last = self.of(name)[-1:]
                    raise AssertionError(f"{name}: not within {seconds} s: {what}; last: {last}")

    def settle(self, quiet_seconds: float) -> None:
        """Return when no state has arrived for that long."""
        with self._changed:
            while self._changed.wait(quiet_seconds):
                pass

    def end(self) -> None:
        """Stop watching. The caller must not close the API client before this returns."""
        self._ended = True
        self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._ended:
                self._watch_once()
        except Exception as error:
            with self._changed:
                self.error = error
                self._changed.notify_all()

    def _watch_once(self) -> None:
        function, arguments = self._source
        version = self._watch.resource_version
        since = {"resource_version": version} if version else {}
        for event in self._watch.stream(
            function, *arguments, timeout_seconds=WATCH_SECONDS, **since
        ):
            state = {**(event.get("raw_object") or event["object"]), "event": event["type"]}
            with self._changed:
                self.states.append(state)
                self.times.append(time.monotonic())
                self._changed.notify_all()
            if self._listener:
                self._listener(state)


def pipelines(
    api: client.ApiClient, namespace: str, listener: Callable[[Raw], object] | None = None
) -> WatchLog:
    """Start to record the InitPipelines of a namespace."""
    function = client.CustomObjectsApi(api).list_namespaced_custom_object
    arguments = (names.GROUP, names.VERSION, namespace, names.PLURAL)
    return WatchLog(function, *arguments, listener=listener)


def pods(
    api: client.ApiClient, namespace: str, listener: Callable[[Raw], object] | None = None
) -> WatchLog:
    """Start to record the Pods of a namespace."""
    return WatchLog(client.CoreV1Api(api).list_namespaced_pod, namespace, listener=listener)
