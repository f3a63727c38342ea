"""A model of a cluster around one InitPipeline: API server, scheduler, node and users.

The API server is FakeApi, extended with the events of its watches. Each public method of Cluster is
one write by another client than the operator.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from initpipeline.api.models import format_time
from initpipeline.api.names import NAME_LABEL
from initpipeline.api.raw import Raw
from initpipeline.runtime.keys import Key
from tests.builders import NAME, NAMESPACE, at
from tests.unit.model.kubelet import Kubelet, Truth
from tests.unit.runtime.fake_api import (
    KEY,
    PIPELINES,
    PODS,
    FakeApi,
    is_labelled,
    is_removed,
    with_deletion,
)

NODE = "node-1"
KEPT_CONDITIONS = frozenset({"PodScheduled", "DisruptionTarget"})
"""Conditions that the kubelet does not write."""


class Clock:
    """The only clock of the model. Tests set its time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return at(self.seconds)


UNLABELLED = "unlabelled pods"
"""The second watch of Pods: those without the operator's label."""


@dataclass(frozen=True)
class Event:
    """An event of a watch."""

    watch: str
    """The plural of what is watched, or UNLABELLED."""
    type: str
    object: Raw


class Api(FakeApi):
    """FakeApi with graceful deletion, garbage collection, and all events of its watches."""

    def __init__(self, clock: Clock, note: Callable[[Raw], None]) -> None:
        super().__init__(clock)
        self._note = note
        self.foreign_deleted = False
        """The operator has deleted a Pod that is not its pipeline's."""
        self.events: list[Event] = []
        self.injected: dict[str, list[Raw]] = {}
        """Containers that admission adds to each Pod, by the field of its spec. An init container
        comes first, an app container last, as with a service mesh."""
        self._events_by_watch: dict[str, list[Event]] = {}

    def events_of(self, watch: str) -> list[Event]:
        return self._events_by_watch.setdefault(watch, [])

    def count(self) -> int:
        """Returns a number that it has not returned before."""
        return next(self._versions)

    def put(self, plural: str, raw: Raw) -> Raw:
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        before = self.objects.get((plural, key))
        stored = super().put(plural, raw)
        self._notify(plural, before, stored)
        return stored

    def gone(self, plural: str, key: Key = KEY) -> None:
        raw = self.objects.get((plural, key))
        super().gone(plural, key)
        if raw is None:
            return
        version = str(next(self._versions))
        last = {**raw, "metadata": {**raw["metadata"], "resourceVersion": version}}
        self._notify(plural, last, None)
        if (
            plural == PIPELINES
            and self.pod is not None
            and self.pod.owner_uid == last["metadata"]["uid"]
        ):
            self.delete(PODS)

    def _post(self, plural: str, key: Key, body: Raw, query: object) -> Raw:
        if plural == PODS:
            spec = body["spec"]
            body["spec"] = {
                **spec,
                "initContainers": [
                    *self.injected.get("initContainers", ()),
                    *spec["initContainers"],
                ],
                "containers": [*spec["containers"], *self.injected.get("containers", ())],
            }
        return super()._post(plural, key, body, query)

    def _notify(self, plural: str, before: Raw | None, after: Raw | None) -> None:
        """Adds an event to each watch that matches the object after the change or before."""
        was, now = _watch(plural, before), _watch(plural, after)
        latest = after or before
        assert latest is not None
        self._note(latest)
        if now is not None:
            self._add(Event(now, "MODIFIED" if was == now else "ADDED", latest))
        if was is not None and was != now:
            self._add(Event(was, "DELETED", latest))

    def _add(self, event: Event) -> None:
        self.events.append(event)
        self.events_of(event.watch).append(event)

    def _delete(self, plural: str, key: Key, body: Raw, query: object) -> Raw:
        """Handles a deletion by the operator."""
        answer = super()._delete(plural, key, body, query)
        self.foreign_deleted |= plural == PODS and "ownerReferences" not in answer["metadata"]
        return answer

    def delete(self, plural: str, key: Key = KEY, grace: int | None = None) -> Raw:
        """Deletes an object. A Pod with a grace period is gone when its kubelet has ended it, and
        one with a finalizer stays. ``grace`` is that of the request in seconds. None: the request
        has none."""
        raw = copy.deepcopy(self._found(plural, key))
        deleted = with_deletion(raw, self._clock(), grace) if plural == PODS else raw
        if deleted is not raw:
            self.put(plural, deleted)
        if is_removed(deleted):
            self.gone(plural, key)
        return deleted


class Cluster:
    """A cluster with at most one Pod, which has the pipeline's name."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.api = Api(self.clock, self._note)
        self.kubelet: Kubelet | None = None
        self.skew = timedelta()
        """The difference of the node's wall clock to the true time."""
        self.truths: dict[str, Truth] = {}
        """The truth about the Pod, by resource version."""

    @property
    def pod(self) -> Raw | None:
        return self.api.objects.get((PODS, KEY))

    def create_pod(self, spec: Raw, **metadata: Any) -> None:
        """Creates the Pod as another client."""
        named = {
            "name": NAME,
            "namespace": NAMESPACE,
            "creationTimestamp": format_time(self.clock()),
        }
        status = {"phase": "Pending"}
        self.api.put(PODS, {"metadata": {**named, **metadata}, "spec": spec, "status": status})

    def schedule(self) -> None:
        pod = self._pod()
        assert not pod["spec"].get("schedulingGates"), "the Pod has a scheduling gate"
        self.kubelet = Kubelet(pod, self._write_status, self.clock, lambda: self.skew)
        spec = {**pod["spec"], "nodeName": NODE}
        bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": self._now()}
        self._put({"spec": spec, "status": _with_condition(pod["status"], bound)})

    def label(self, ours: bool) -> None:
        """Removes the operator's label from the Pod as a user, or restores it (``ours``)."""
        labels = {NAME_LABEL: NAME} if ours else {}
        self._put({"metadata": {**self._pod()["metadata"], "labels": labels}})

    def find_no_node(self) -> None:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available",
            "lastTransitionTime": self._now(),
        }
        self._put({"status": _with_condition(self._pod()["status"], condition)})

    def ungate(self) -> None:
        """Removes the scheduling gates as a user."""
        pod = self._pod()
        spec = {key: value for key, value in pod["spec"].items() if key != "schedulingGates"}
        self._put({"spec": spec})

    def resize(self, name: str) -> None:
        """Changes, as a user, the cpu of a container whose resizePolicy is RestartContainer."""
        containers = copy.deepcopy(self._pod()["spec"]["containers"])
        for container in containers:
            if container["name"] == name:
                container["resources"] = {"requests": {"cpu": f"{self.api.count()}m"}}
        self._put({"spec": {**self._pod()["spec"], "containers": containers}})

    def disrupt(self, reason: str = "EvictionByEvictionAPI") -> None:
        """Sets DisruptionTarget on the Pod, and deletes it."""
        target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": reason}
        self._put({"status": _with_condition(self._pod()["status"], target)})
        self.api.delete(PODS)

    def node_step(self, exit_code: int = 137) -> bool:
        """Lets the kubelet do the next thing. Returns False if there is nothing to do now."""
        pod = self.pod
        if pod is None or self.kubelet is None or self.kubelet.uid != pod["metadata"]["uid"]:
            return False
        if "deletionTimestamp" not in pod["metadata"]:
            return self.kubelet.step()
        if not self.kubelet.terminate(exit_code):
            self.api.delete(PODS, grace=0)
        return True

    def _write_status(self, status: Raw) -> None:
        kept = [c for c in self._pod()["status"]["conditions"] if c["type"] in KEPT_CONDITIONS]
        whole = {**status, "conditions": [*kept, *status["conditions"]]}
        self._put({"status": {key: value for key, value in whole.items() if value}})

    def _put(self, change: Mapping[str, Any]) -> None:
        self.api.edit(PODS, change)

    def _note(self, written: Raw) -> None:
        """Records the truth for the resource version that was written."""
        metadata = written["metadata"]
        if self.kubelet is not None and self.kubelet.uid == metadata.get("uid"):
            self.truths[metadata["resourceVersion"]] = self.kubelet.truth()

    def _pod(self) -> Raw:
        assert self.pod is not None, "there is no Pod"
        return self.pod

    def _now(self) -> str:
        return format_time(self.clock())


def _watch(plural: str, raw: Raw | None) -> str | None:
    """Returns the watch that matches this object. None: there is no object."""
    if raw is None:
        return None
    return plural if plural != PODS or is_labelled(raw) else UNLABELLED


def _with_condition(status: Raw, condition: Raw) -> Raw:
    others = [c for c in status.get("conditions", ()) if c["type"] != condition["type"]]
    return {**status, "conditions": [*others, condition]}
