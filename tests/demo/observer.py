"""Observe the pipeline, its Pod and the operator's process, and report each change."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol, Self

from initpipeline.api.raw import Raw
from tests import watching
from tests.api_client import connected
from tests.demo.errors import DemoError
from tests.demo.snapshot import Row, Snapshot

QUIET_SECONDS: Final = 0.1
"""A change of the Pod causes one of the pipeline. Changes this close together make one row."""


@dataclass(frozen=True)
class OperatorRestarted:
    """The operator died, and the supervisor started it again."""

    old_pid: int
    new_pid: int


@dataclass(frozen=True)
class OperatorFailed:
    """The operator cannot be started again."""

    reason: str


Feed = SimpleQueue[Raw | OperatorRestarted | OperatorFailed]


class Listener(Protocol):
    """Receives the changes."""

    def changed(self, snapshot: Snapshot) -> None:
        """Receive each change of the pipeline or its Pod."""

    def settled(self, snapshot: Snapshot) -> None:
        """Receive the state after QUIET_SECONDS without a change."""

    def operator_restarted(self, event: OperatorRestarted, snapshot: Snapshot) -> None:
        """Receive a restart of the operator."""


class Observer:
    """The present state of the pipeline and its Pod. It is updated during wait()."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        name: str,
        feed: Feed,
        listeners: Sequence[Listener],
    ) -> None:
        self.snapshot = Snapshot(name)
        self._api = connected(kubeconfig)
        self._feed, self._listeners = feed, listeners
        self._changed = False
        self._logs = [
            watch(self._api, namespace, listener=feed.put)
            for watch in (watching.pipelines, watching.pods)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for log in self._logs:
            log.end()
        self._api.close()

    def wait(self, condition: Callable[[Snapshot], bool], seconds: float, what: str) -> None:
        """Process changes until the condition is true. Raise DemoError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition(self.snapshot):
            if time.monotonic() > deadline:
                raise DemoError(f"not within {seconds:.0f} s: {what}; {self._state()}")
            self._process_next()
        self._settle()

    def _process_next(self) -> None:
        for log in self._logs:
            if log.error:
                raise DemoError(f"the watch failed: {' '.join(str(log.error).split())[:300]}")
        try:
            event = self._feed.get(timeout=QUIET_SECONDS)
        except Empty:
            self._settle()
            return
        match event:
            case OperatorFailed(reason):
                raise DemoError(reason)
            case OperatorRestarted():
                self._settle()
                for one in self._listeners:
                    one.operator_restarted(event, self.snapshot)
            case _:
                self._update(event)

    def _update(self, state: Raw) -> None:
        if state["metadata"]["name"] != self.snapshot.name:
            return
        present = None if state["event"] == "DELETED" else state
        if state["kind"] == "Pod":
            self.snapshot = replace(self.snapshot, pod=present)
        else:
            self.snapshot = replace(self.snapshot, pipeline=present)
        self._changed = True
        for one in self._listeners:
            one.changed(self.snapshot)

    def _settle(self) -> None:
        if self._changed:
            self._changed = False
            for one in self._listeners:
                one.settled(self.snapshot)

    def _state(self) -> str:
        row = Row.of(self.snapshot)
        return f"run {row.run} is at {row.init}, {row.reason}: {row.message} (Pod: {row.pod})"
