"""Watches Pods that block a pipeline and do not have the operator's label.

A Pod of another owner may have the pipeline's name, or a user may have removed the label from the
pipeline's Pod. The operator's main watch selects Pods by label, so it does not report these. Each
namespace with such a Pod gets one watch of the metadata of all its Pods without the label. With
``--shards``, the label with the bucket may be missing instead, so all Pods of the namespace are
watched.

Alternatives cost more: polling costs requests, a watch per Pod costs connections, and retrying the
creation of the Pod costs writes.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from initpipeline.runtime.client import WATCH_SECONDS
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.retries import repeat

WATCHES: Final = 100
"""Maximum number of namespaces that a shard watches at the same time, because each watch costs a
connection. If there are more, they take turns."""

TURN_SECONDS: Final = WATCH_SECONDS
"""The duration of a watch. Each watch starts with a list, which finds what the previous one
missed."""

SHORT_TURN_SECONDS: Final = 10
"""The duration of a watch while other namespaces wait for their turn."""


class UnlabelledPodWatcher:
    """Requeues a pipeline when the unlabelled Pod with its name changes or is deleted. It is not
    thread-safe."""

    def __init__(
        self,
        gateway: Gateway,
        queue: WorkQueue[Key],
        start: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """``start`` starts a task with this name, whose exceptions it notices."""
        self._start = start
        self._gateway = gateway
        self._queue = queue
        self._names: dict[str, dict[Key, str | None]] = {}
        """The watched Pods by namespace, with the last resource version that a list or the caller
        has read. None: neither has read the Pod yet. No dictionary is empty."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(WATCHES)

    def __contains__(self, key: Key) -> bool:
        return key in self._names.get(key.namespace, ())

    def __len__(self) -> int:
        """Returns the number of watched namespaces."""
        return len(self._tasks)

    def watch(self, key: Key) -> bool:
        """Start to watch the Pod: when it changes, the pipeline is requeued. Returns whether the
        watch is new. If it is, the caller must read the Pod again, because it may have changed
        before the watch, and call ``was_read``. False: the Pod is watched already."""
        if key in self:
            return False
        if key.namespace not in self._names:
            self._names[key.namespace] = {}
            self._begin(key.namespace)
        self._names[key.namespace][key] = None
        return True

    def was_read(self, key: Key, version: str) -> None:
        """Record the resource version that the caller has read after ``watch``. If a list has found
        another one, the pipeline is requeued: the watch starts from the list, so it does not report
        a change between the two."""
        versions = self._names.get(key.namespace, {})
        if key in versions:
            if versions[key] not in (None, version):
                self._queue.add(key)
            versions[key] = version

    def forget(self, key: Key) -> None:
        """Stop watching the Pod."""
        if key not in self:
            return
        del self._names[key.namespace][key]
        if not self._names[key.namespace]:
            del self._names[key.namespace]
            self._end(key.namespace)

    def close(self) -> None:
        """Stop watching all Pods."""
        for namespace in tuple(self._tasks):
            self._end(namespace)
        self._names.clear()

    def _begin(self, namespace: str) -> None:
        name = f"watch of unlabelled Pods in {namespace}"
        self._tasks[namespace] = self._start(name, self._run(namespace))

    def _end(self, namespace: str) -> None:
        self._tasks.pop(namespace).cancel()

    async def _run(self, namespace: str) -> None:
        fields = {"namespace": namespace}
        await repeat(
            "watch of unlabelled Pods failed",
            fields,
            lambda opened: self._watch_once(namespace, opened),
        )

    async def _watch_once(self, namespace: str, opened: Callable[[], None]) -> None:
        async with self._turns:
            seconds = SHORT_TURN_SECONDS if self._turns.locked() else TURN_SECONDS
            await self._watch_for(namespace, seconds, opened)

    async def _watch_for(self, namespace: str, seconds: int, opened: Callable[[], None]) -> None:
        gateway, wanted = self._gateway, self._names[namespace]
        found, version = await gateway.find_unlabelled_pods(namespace, wanted.keys())
        for key, known in tuple(wanted.items()):
            if key not in found or known not in (None, found[key]):
                self._queue.add(key)
            wanted[key] = found.get(key)
        changes = gateway.watch_unlabelled_pods(namespace, version, seconds, opened)
        async with contextlib.aclosing(changes):
            async for key in changes:
                if key in wanted:
                    self._queue.add(key)
