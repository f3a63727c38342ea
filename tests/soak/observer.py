"""Watch the API server and the real node, and hand what they show to the judge."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes import client

from initpipeline.api import names
from tests.api_client import connected
from tests.soak import facts
from tests.soak.background import Background
from tests.soak.facts import ContainersSeen, Gap, Stored

PODS: Final = "pods"
PATHS: Final = {
    names.PLURAL: f"/apis/{names.API_VERSION}/{names.PLURAL}",
    PODS: "/api/v1/pods",
}
SELECTORS: Final = {names.PLURAL: "", PODS: names.NAME_LABEL}
READERS: Final[dict[str, Callable[..., Stored]]] = {names.PLURAL: facts.pipeline, PODS: facts.pod}
WATCH_SECONDS: Final = 60
SILENT_SECONDS: Final = 75.0
"""A watch that is silent for longer is opened again."""
RETRY_SECONDS: Final = 0.2
GONE: Final = 410

Clock = Callable[[], float]
FAILED: Final = (client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError)


class Follower:
    """Follows all objects of one kind, without end. Continues a watch that was cut.

    The API server refuses to continue some watches, as after its restart. Then the follower lists
    the objects, and reports the gap.
    """

    def __init__(
        self,
        kubeconfig: Path,
        source: str,
        clock: Clock,
        add: Callable[[Stored | Gap], object],
        reach: Callable[[str, int], object],
    ) -> None:
        self._api = connected(kubeconfig)
        self._source = source
        self._clock = clock
        self._add = add
        self._reach = reach
        self._read = READERS[source]
        self._known: dict[str, Stored] = {}
        self._version = 0
        self._ended = threading.Event()
        self.thread = Background(f"the watch of {source}", self._follow)

    def start(self) -> None:
        """List the objects, and begin to follow them."""
        self._list()
        self.thread.start()

    def end(self) -> None:
        """Stop at the end of the present watch, at the latest."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.is_set():
            try:
                if not self._watch():
                    self._list()
            except FAILED:
                self._ended.wait(RETRY_SECONDS)

    def _watch(self) -> bool:
        """Follow one watch until it ends. Returns False if it cannot be continued."""
        options = {
            "watch": "1",
            "allowWatchBookmarks": "1",
            "resourceVersion": str(self._version),
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            response = self._get(options, SILENT_SECONDS)
        except client.ApiException as error:
            if error.status == GONE:
                return False
            raise
        try:
            for line in _lines(response):
                if not self._take(json.loads(line)):
                    return False
        finally:
            response.close()
        return True

    def _take(self, event: dict[str, Any]) -> bool:
        """Report an event. Returns False if it is an error: the watch cannot be continued."""
        type_, raw = event["type"], event["object"]
        if type_ == "ERROR":
            return bool(raw.get("code") != GONE)
        if type_ != "BOOKMARK":
            self._report(self._read(raw, self._clock(), gone=type_ == facts.DELETED))
        self._version = int(raw["metadata"]["resourceVersion"])
        self._reach(self._source, self._version)
        return True

    def _report(self, state: Stored) -> None:
        if state.gone:
            self._known.pop(state.uid, None)
        else:
            self._known[state.uid] = state
        self._add(state)

    def _list(self) -> None:
        response = self._get({}, SILENT_SECONDS)
        body = json.loads(response.data)
        now, until = self._clock(), int(body["metadata"]["resourceVersion"])
        listed = {one.uid: one for one in (self._read(raw, now) for raw in body["items"])}
        changed = [
            one
            for one in listed.values()
            if one.uid not in self._known or self._known[one.uid].version != one.version
        ]
        gone = [one for uid, one in self._known.items() if uid not in listed]
        if self._version:
            uids = tuple(one.uid for one in (*changed, *gone))
            self._add(Gap(self._version, now, self._source, until, uids))
        for one in changed:
            self._report(one)
        for one in gone:
            self._report(facts.deleted(one, until, now))
        self._version = until
        self._reach(self._source, until)

    def _get(self, options: dict[str, str], seconds: float) -> Any:
        selector = SELECTORS[self._source]
        query = {**options, **({"labelSelector": selector} if selector else {})}
        return self._api.call_api(
            PATHS[self._source],
            "GET",
            query_params=list(query.items()),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=False,
            _request_timeout=(5, seconds),
        )


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(amt=None, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)


class Containers:
    """Reads which containers run on the real node, from the files of containerd.

    containerd keeps a folder for each task, with the OCI configuration and the process's ID. A
    reader of these files starts no program on the node.
    """

    def __init__(self, node: Path, clock: Clock) -> None:
        """``node`` is the folder of the node's file system."""
        self._tasks = node / "run/containerd/io.containerd.runtime.v2.task/k8s.io"
        self._clock = clock
        self._pods: dict[str, tuple[str, str] | None] = {}

    def seen(self) -> ContainersSeen:
        """Return the running containers, except sandboxes."""
        pods: dict[str, set[str]] = {}
        known: dict[str, tuple[str, str] | None] = {}
        for folder in self._tasks.iterdir() if self._tasks.exists() else ():
            try:
                if folder.name not in self._pods:
                    self._pods[folder.name] = _pod_of(folder)
                known[folder.name] = pod = self._pods[folder.name]
                if pod is not None and _runs(folder):
                    pods.setdefault(pod[0], set()).add(pod[1])
            except (FileNotFoundError, ProcessLookupError, json.JSONDecodeError):
                continue  # The task is being created, or was deleted.
        self._pods = known
        return ContainersSeen(
            self._clock(), {name: tuple(sorted(uids)) for name, uids in sorted(pods.items())}
        )


def _pod_of(folder: Path) -> tuple[str, str] | None:
    """Return name and UID of a task's Pod. None: it is a sandbox, or not a Pod's."""
    prefix = "io.kubernetes.cri."
    annotations = json.loads((folder / "config.json").read_text()).get("annotations", {})
    if annotations.get(f"{prefix}container-type") != "container":
        return None
    return annotations[f"{prefix}sandbox-name"], annotations[f"{prefix}sandbox-uid"]


def _runs(folder: Path) -> bool:
    stat = Path("/proc") / (folder / "init.pid").read_text().strip() / "stat"
    return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def until_ended(ended: threading.Event, seconds: float, action: Callable[[], object]) -> None:
    """Call the action every so many seconds, until the event."""
    while not ended.wait(max(0.0, seconds - time.monotonic() % seconds)):
        action()
