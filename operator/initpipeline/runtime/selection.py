"""The label selector of Kopf's lists and watches of InitPipelines.

When it changes, the watches are cut. Kopf opens them again with the new selector, from the last
resource version. So they miss nothing after that version.
"""

import asyncio
from collections.abc import Iterable

import aiohttp

from initpipeline.runtime.buckets import NOTHING


class Selection:
    """Selects the objects of Kopf's lists and watches. At first it selects all."""

    def __init__(self, paths: Iterable[str]) -> None:
        """``paths`` are those of the lists and watches."""
        self._paths = frozenset(paths)
        self._selector = ""
        self._open: dict[str, aiohttp.ClientResponse] = {}
        """The open watches with this selector, by path."""
        self._cut: set[str] = set()
        """The paths of the watches that were cut, and are not requested again yet."""
        self._all_open = asyncio.Event()

    def change(self, selector: str) -> None:
        """Select other objects. "": all objects."""
        self._selector = selector
        self._all_open.clear()
        for watch in self._open.values():
            watch.close()
        self._cut |= self._open.keys()
        self._open.clear()

    def apply(self, request: aiohttp.ClientRequest) -> None:
        """Set the selector of a request that is about to be sent."""
        if self._selector:
            request.url = request.url.update_query(labelSelector=self._selector)
        if self._selector == NOTHING and "watch" not in request.url.query:
            # From the watch cache, even if it is old. The API server may otherwise read all objects
            # from etcd and decode them, for an empty list.
            request.url = request.url.update_query(resourceVersion="0")

    def opened(self, request: aiohttp.ClientRequest, watch: aiohttp.ClientResponse) -> None:
        """Record that a watch is open. Cuts it if the selector has changed since its request."""
        if request.url.query.get("labelSelector", "") != self._selector:
            watch.close()
            return
        self._open[request.url.path] = watch
        if self._open.keys() == self._paths:
            self._all_open.set()

    def was_cut(self, path: str) -> bool:
        """Returns whether the watch was cut since its last request. A delay is not needed then."""
        was_cut = path in self._cut
        self._cut.discard(path)
        return was_cut

    async def wait(self) -> None:
        """Wait until all watches have been opened with the present selector."""
        await self._all_open.wait()
