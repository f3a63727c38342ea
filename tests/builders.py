"""Fluent builders of API objects: ``pod().init("a", exit=0).init("b", running=True).raw()``.

Each call returns a new builder. A test starts from one Pod and states only what changed. ``raw()``
returns the object as the API serves it, ``build()`` the typed facts. Times are seconds after
``BASE``.

By default the containers run one after the other. The first init container runs from second 0 to
second 8, the next from 10 to 18. App containers start ten seconds after the start of the last init
container. A container's ID consists of its Pod, name and restart count, because the runtime never
uses an ID twice.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypedDict, Unpack

from initpipeline.api import names
from initpipeline.api.models import InitPipelineStatus, format_time
from initpipeline.api.raw import Raw
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.core.template_annotation import packed

BASE: Final = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
PIPELINE_UID: Final = "pipeline-uid"
NAME: Final = "demo"
NAMESPACE: Final = "default"
TURN: Final = 10
"""Seconds from the start of one init container to that of the next."""
DURATION: Final = 8
"""Seconds that an init container runs."""
NEVER: Final = (datetime(1970, 1, 1, tzinfo=UTC) - BASE).total_seconds()
"""The start time that the kubelet reports for a container that the runtime could not start."""

_UID: Final = "<uid>"
"""A placeholder, which ``raw()`` replaces with the Pod's UID."""


_RULES: Final[Raw] = {
    "restartPolicy": "Always",
    "restartPolicyRules": [
        {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": []}}
    ],
}


def at(seconds: float) -> datetime:
    """Return the time that is this many seconds after BASE."""
    return BASE + timedelta(seconds=seconds)


def container_id(name: str, restarts: int = 0, uid: str = "pod-1") -> str:
    """Return the default ID of a container."""
    return f"containerd://{uid}-{name}-{restarts}"


def stamp(seconds: float) -> str:
    """Return the same time in the API's format, which has whole seconds."""
    return format_time(at(seconds))


@dataclass(frozen=True)
class End:
    """How a container terminated."""

    exit: int = 0
    start: float | None = 0
    end: float | None = DURATION
    reason: str | None = None
    message: str | None = None
    signal: int | None = None

    def raw(self, container_id: str = "") -> Raw:
        terminated = {
            "exitCode": self.exit,
            "reason": self.reason or ("Error" if self.exit else "Completed"),
            "startedAt": None if self.start is None else stamp(self.start),
            "finishedAt": None if self.end is None else stamp(self.end),
            "message": self.message,
            "signal": self.signal,
            "containerID": container_id,
        }
        optional = {"message", "signal", "containerID"}
        return {key: value for key, value in terminated.items() if value or key not in optional}


class ContainerState(TypedDict, total=False):
    """What a test states about a container. Without a state, the container waits to be created."""

    exit: int | None
    """It has terminated with this exit code."""
    running: bool
    waiting: str | None
    """It waits for this reason."""
    message: str | None
    """Of the waiting or the terminated state."""
    reason: str | None
    """Of the terminated state."""
    start: float | None
    end: float | None
    restarts: int
    last: End | None
    """How its previous instance terminated."""
    id: str | None
    reported: bool
    """False: the kubelet has not reported the container yet."""


@dataclass(frozen=True)
class Container:
    """One container's spec and status."""

    name: str
    image: str
    sidecar: bool
    status: Raw | None
    startup_probe: bool = False

    def spec(self) -> Raw:
        spec: Raw = {"name": self.name, "image": self.image}
        if self.sidecar:
            spec["restartPolicy"] = "Always"
        if self.startup_probe:
            spec["startupProbe"] = {"tcpSocket": {"port": 80}}
        return spec


@dataclass(frozen=True)
class PodBuilder:
    """A v1.Pod of run 1 of the pipeline. It is bound to a node, no container has started."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    uid: str = "pod-1"
    run: int | None = 1
    owner: str | None = PIPELINE_UID
    created: float = 0
    deletion: Mapping[str, Any] = field(default_factory=dict)
    node_name: str | None = "node-1"
    status: Mapping[str, Any] = field(default_factory=lambda: {"phase": "Pending"})
    conditions: tuple[Raw, ...] = ()
    inits: tuple[Container, ...] = ()
    apps: tuple[Container, ...] = ()
    template_text: str | None = None
    template_hash: str | None = None
    rerun_token: str | None = None
    rerun_in_place: str | None = None
    rules: bool = False
    reverse_statuses: bool = False
    restart_policy: str = "Always"
    spec: Mapping[str, Any] = field(default_factory=dict)

    def init(
        self,
        name: str,
        *,
        started: bool | None = None,
        sidecar: bool = False,
        startup_probe: bool = False,
        image: str = "busybox",
        **state: Unpack[ContainerState],
    ) -> "PodBuilder":
        """Add an init container, or replace the one of this name."""
        status = _status(name, image, TURN * _position(self.inits, name), state)
        status["started"] = status["started"] if started is None else started
        succeeded = state.get("exit") == 0
        status["ready"] = succeeded or (sidecar and bool(status["started"]))
        reported = status if state.get("reported", True) else None
        container = Container(name, image, sidecar, reported, startup_probe)
        return replace(self, inits=_with(self.inits, container))

    def sidecar(self, name: str, **status: Any) -> "PodBuilder":
        """Add an init container with ``restartPolicy: Always``."""
        return self.init(name, sidecar=True, **status)

    def app(
        self, name: str = "app", *, image: str = "nginx", **state: Unpack[ContainerState]
    ) -> "PodBuilder":
        """Add an app container, or replace the one of this name."""
        status = _status(name, image, TURN * len(self.inits), state)
        status["ready"] = state.get("running", False)
        reported = status if state.get("reported", True) else None
        return replace(self, apps=_with(self.apps, Container(name, image, False, reported)))

    def initialized(self, *names: str) -> "PodBuilder":
        """Let these init containers succeed, one after the other."""
        builder = self
        for name in names:
            builder = builder.init(name, exit=0)
        return builder

    def condition(
        self,
        type_: str,
        status: str = "True",
        reason: str = "",
        message: str = "",
        since: float = 0,
    ) -> "PodBuilder":
        condition = {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": stamp(since),
        }
        others = tuple(c for c in self.conditions if c["type"] != type_)
        return replace(self, conditions=(*others, condition))

    def ready(self, status: bool = True) -> "PodBuilder":
        return self.condition("Ready", str(status))

    def phase(self, phase: str, reason: str = "", message: str = "") -> "PodBuilder":
        status = {"phase": phase, "reason": reason, "message": message}
        return replace(self, status={key: value for key, value in status.items() if value})

    def of_run(self, run: int | None, uid: str | None = None) -> "PodBuilder":
        """Make it the Pod of that run. Each run has a UID of its own."""
        return replace(self, run=run, uid=uid or f"pod-{run}")

    def owned_by(self, uid: str | None) -> "PodBuilder":
        return replace(self, owner=uid)

    def deleting(self, requested: float = 0, grace: int = 30) -> "PodBuilder":
        """Mark it as terminating. The API server sets the time at which the grace period ends."""
        deletion = {
            "deletionTimestamp": stamp(requested + grace),
            "deletionGracePeriodSeconds": grace,
        }
        return replace(self, deletion=deletion)

    def restarts(self, policy: str) -> "PodBuilder":
        """Set the Pod's restartPolicy."""
        return replace(self, restart_policy=policy)

    def with_spec(self, **fields: Any) -> "PodBuilder":
        """Set these fields of the Pod's spec."""
        return replace(self, spec={**self.spec, **fields})

    def in_place(
        self, annotation: str = names.IN_PLACE, *, rules: bool | None = None
    ) -> "PodBuilder":
        """Set the annotation of a Pod that was created under rerunStrategy InPlace.

        The Pod has the restart rules if the annotation is IN_PLACE. `rules=False` is a Pod from
        which the API server dropped the rules.
        """
        has_rules = annotation == names.IN_PLACE if rules is None else rules
        return replace(self, rerun_in_place=annotation, rules=has_rules)

    def made_of(self, template: Raw | str | None) -> "PodBuilder":
        """Set the annotation with the template. A string is set unchanged, as others may do."""
        carried = packed(template) if isinstance(template, dict) else template
        return replace(self, template_text=carried)

    def created_for(self, of: "PipelineBuilder") -> "PodBuilder":
        """Set the annotations with the template's hash and the rerun token of this pipeline."""
        token = of.annotations.get(names.RERUN_ANNOTATION, "")
        return replace(self, template_hash=of.build().template_hash, rerun_token=token)

    def held_by(self, *finalizers: str) -> "PodBuilder":
        return replace(self, metadata={**self.metadata, "finalizers": list(finalizers)})

    def node(self, name: str | None) -> "PodBuilder":
        return replace(self, node_name=name)

    def reversed_statuses(self) -> "PodBuilder":
        """List the statuses in an order that differs from the spec's."""
        return replace(self, reverse_statuses=True)

    def raw(self) -> Raw:
        metadata: Raw = {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": self.uid,
            "resourceVersion": "1",
            "creationTimestamp": stamp(self.created),
            "labels": {names.NAME_LABEL: NAME},
            **self.deletion,
            **self.metadata,
        }
        annotations = {
            names.RUN_ANNOTATION: None if self.run is None else str(self.run),
            names.RERUN_IN_PLACE_ANNOTATION: self.rerun_in_place,
            names.TEMPLATE_ANNOTATION: self.template_text or None,
            names.TEMPLATE_HASH_ANNOTATION: self.template_hash,
            names.RERUN_TOKEN_ANNOTATION: self.rerun_token,
        }
        given = {key: value for key, value in annotations.items() if value is not None}
        metadata["annotations"] = given
        if self.owner is not None:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": NAME,
                    "uid": self.owner,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]
        spec: Raw = {
            "restartPolicy": self.restart_policy,
            "initContainers": [c.spec() for c in self.inits],
            "containers": [{**c.spec(), **(_RULES if self.rules else {})} for c in self.apps],
            **self.spec,
        }
        if self.node_name is not None:
            spec["nodeName"] = self.node_name
        statuses = {
            "initContainerStatuses": self._statuses(self.inits),
            "containerStatuses": self._statuses(self.apps),
            "conditions": list(self.conditions),
        }
        status = {**self.status, **{key: value for key, value in statuses.items() if value}}
        return copy.deepcopy(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": spec,
                "status": status,
            }
        )

    def build(self) -> Pod:
        return Pod.from_api(self.raw())

    def _statuses(self, containers: tuple[Container, ...]) -> list[Raw]:
        text = json.dumps([c.status for c in containers if c.status is not None])
        statuses: list[Raw] = json.loads(text.replace(_UID, self.uid))
        return statuses[::-1] if self.reverse_statuses else statuses


@dataclass(frozen=True)
class PipelineBuilder:
    """An InitPipeline of two init containers, "one" and "two", and the app container "app"."""

    template: Raw = field(
        default_factory=lambda: {
            "spec": {
                "initContainers": [
                    {"name": "one", "image": "busybox"},
                    {"name": "two", "image": "busybox"},
                ],
                "containers": [{"name": "app", "image": "nginx"}],
            }
        }
    )
    policies: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 1
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    is_deleting: bool = False
    created_at: float | None = None
    """None: the object has no creationTimestamp."""
    status: Raw = field(default_factory=dict)

    def created(self, seconds: float) -> "PipelineBuilder":
        """Set the creationTimestamp."""
        return replace(self, created_at=seconds)

    def inits(self, *containers: str | Raw) -> "PipelineBuilder":
        """Set the init containers, given by name or as v1.Container."""
        specs = [{"name": c, "image": "busybox"} if isinstance(c, str) else c for c in containers]
        return self.with_template({"spec": {**self.template["spec"], "initContainers": specs}})

    def with_template(self, template: Raw) -> "PipelineBuilder":
        return replace(self, template=template)

    def edited(self, image: str = "nginx:2") -> "PipelineBuilder":
        """Change the app's image in the template, which increments the generation."""
        spec = {**self.template["spec"], "containers": [{"name": "app", "image": image}]}
        return replace(self, template={"spec": spec}, generation=self.generation + 1)

    def policy(self, **changed: Any) -> "PipelineBuilder":
        """Change fields of the spec, which increments the generation. None removes a field."""
        merged = {**self.policies, **changed}
        kept = {key: value for key, value in merged.items() if value is not None}
        return replace(self, policies=kept, generation=self.generation + 1)

    def of_generation(self, generation: int) -> "PipelineBuilder":
        return replace(self, generation=generation)

    def token(self, token: str) -> "PipelineBuilder":
        """Set the annotation with which a user requests a re-run."""
        return replace(self, annotations={**self.annotations, names.RERUN_ANNOTATION: token})

    def deleting(self) -> "PipelineBuilder":
        return replace(self, is_deleting=True)

    def with_status(self, status: InitPipelineStatus) -> "PipelineBuilder":
        """Set the status, as the API serves it after the operator wrote it."""
        return replace(self, status=status.to_api())

    def raw(self) -> Raw:
        metadata: Raw = {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": PIPELINE_UID,
            "resourceVersion": "1",
            "generation": self.generation,
            "annotations": dict(self.annotations),
            "labels": dict(self.labels),
        }
        if self.is_deleting:
            metadata["deletionTimestamp"] = stamp(0)
        if self.created_at is not None:
            metadata["creationTimestamp"] = stamp(self.created_at)
        return copy.deepcopy(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": metadata,
                "spec": {"template": self.template, **self.policies},
                "status": self.status,
            }
        )

    def build(self) -> Pipeline:
        return Pipeline.from_api(self.raw())


def outage_tolerations(seconds: int) -> list[Raw]:
    """Return the tolerations that the API server adds to each Pod, with 300 seconds. They tolerate
    for this time that the Pod's node does not report."""
    return [
        {
            "key": f"node.kubernetes.io/{taint}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": seconds,
        }
        for taint in ("not-ready", "unreachable")
    ]


def pod() -> PodBuilder:
    """Return a Pod of run 1 on a node, without containers."""
    return PodBuilder()


def fresh_pod(run: int = 1) -> PodBuilder:
    """Return the default pipeline's Pod: scheduled, no container started."""
    return pod().of_run(run).init("one").init("two").app().condition("PodScheduled")


def running_pod(run: int = 1) -> PodBuilder:
    """Return the default pipeline's Pod: initialized, its app container running and ready."""
    return fresh_pod(run).initialized("one", "two").app(running=True).phase("Running").ready()


def completed_pod(run: int = 1) -> PodBuilder:
    """Return the default pipeline's Pod after its app container has exited with 0, under a
    restartPolicy that allows a Pod to complete."""
    return running_pod(run).restarts("OnFailure").app(exit=0).phase("Succeeded")


def silent_pod(run: int = 1, created: float = 0) -> PodBuilder:
    """Return the default pipeline's Pod just after its creation, without any report about it."""
    builder = replace(pod(), created=created).of_run(run).node(None)
    return builder.init("one", reported=False).init("two", reported=False).app(reported=False)


def pipeline() -> PipelineBuilder:
    return PipelineBuilder()


def _position(containers: tuple[Container, ...], name: str) -> int:
    known = [container.name for container in containers]
    return known.index(name) if name in known else len(known)


def _with(containers: tuple[Container, ...], container: Container) -> tuple[Container, ...]:
    position = _position(containers, container.name)
    return (*containers[:position], container, *containers[position + 1 :])


def _status(name: str, image: str, default_start: float, state: ContainerState) -> Raw:
    """Return a v1.ContainerStatus. Of the states, exit takes precedence, then running."""
    start = state.get("start")
    start = default_start if start is None else start
    ended, last = _termination(start, state), state.get("last")
    running, restarts = state.get("running", False), state.get("restarts", 0)
    status: Raw = {
        "name": name,
        "image": image,
        "imageID": "",
        "restartCount": restarts,
        "started": running,
    }
    id_ = state.get("id")
    if id_ is None and (ended is not None or running or last is not None):
        id_ = container_id(name, restarts, _UID)
    if id_:
        status["containerID"] = id_
    # While the container waits to be restarted, the kubelet reports the one that terminated.
    before = restarts - 1 if ended is not None or running else restarts
    last_id = container_id(name, max(before, 0), _UID)
    status["lastState"] = {} if last is None else {"terminated": last.raw(last_id)}
    if ended is not None:
        status["state"] = {"terminated": ended.raw(id_ or "")}
    elif running:
        status["state"] = {"running": {"startedAt": stamp(start)}}
    else:
        reason = state.get("waiting") or "PodInitializing"
        waiting = {"reason": reason, "message": state.get("message")}
        status["state"] = {"waiting": {key: value for key, value in waiting.items() if value}}
    return status


def _termination(start: float, state: ContainerState) -> End | None:
    """Return how the container terminated. None if it has not."""
    code, end = state.get("exit"), state.get("end")
    if code is None:
        return None
    end = start + DURATION if end is None else end
    return End(code, start, end, state.get("reason"), state.get("message"))
