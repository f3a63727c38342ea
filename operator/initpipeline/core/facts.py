"""What the API told, as typed values: the one place where API dicts become facts.

Only what a decision needs is kept, so that a cache of facts stays small; container statuses stay
whole, because they are mirrored verbatim.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from initpipeline.api.models import EffectiveResources, InitPipelineStatus, Policies
from initpipeline.api.names import RERUN_ANNOTATION, RERUN_IN_PLACE_ANNOTATION, RUN_ANNOTATION
from initpipeline.api.reasons import Reason
from initpipeline.core import template as templates
from initpipeline.core.resources import effective_resources

RESTART_ALL_CONTAINERS = "RestartAllContainers"
"""The action of a container's restartPolicyRules that re-runs the Pod in place (KEP-5532)."""

RESTART = "Restart"
"""The action of a container's restartPolicyRules that restarts that container (KEP-5307)."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""What the kubelet tells as the start of a container that the runtime could not start."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """How a container ended: v1.ContainerStateTerminated."""

    exit_code: int
    signal: int | None
    reason: str | None
    message: str | None
    started_at: datetime | None
    """Of a container that could not be started (StartError): when that was tried."""
    finished_at: datetime | None

    @classmethod
    def from_api(cls, state: Mapping[str, Any] | None) -> "Terminated | None":
        raw = (state or {}).get("terminated")
        if raw is None:
            return None
        return cls(
            exit_code=raw.get("exitCode", 0),
            signal=raw.get("signal"),
            reason=raw.get("reason"),
            message=raw.get("message"),
            started_at=_start(raw),
            finished_at=_time(raw.get("finishedAt")),
        )


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """v1.ContainerStatus: the kubelet's own words (``raw``) and what is read out of them."""

    raw: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.raw["name"])

    @property
    def container_id(self) -> str:
        """The runtime's ID of the container, or "" where none was made yet."""
        return self.raw.get("containerID") or ""

    @property
    def restart_count(self) -> int:
        return self.raw.get("restartCount") or 0

    @property
    def started(self) -> bool:
        """Running, and past its startup probe: what makes a sidecar initialized."""
        return self.raw.get("started") is True

    @property
    def ready(self) -> bool:
        return self.raw.get("ready") is True

    @property
    def waiting(self) -> Mapping[str, Any] | None:
        state: Mapping[str, Any] = self.raw.get("state") or {}
        return state.get("waiting")

    @property
    def waiting_reason(self) -> str:
        return (self.waiting or {}).get("reason") or ""

    @property
    def running(self) -> bool:
        return "running" in (self.raw.get("state") or {})

    @property
    def terminated(self) -> Terminated | None:
        return Terminated.from_api(self.raw.get("state"))

    @property
    def last_terminated(self) -> Terminated | None:
        return Terminated.from_api(self.raw.get("lastState"))

    @property
    def started_at(self) -> datetime | None:
        """When the container of the present state started; None while it waits."""
        state = self.raw.get("state") or {}
        return _start(state.get("running") or state.get("terminated") or {})

    @property
    def ever_started(self) -> bool:
        return bool(self.started_at or self.last_terminated or self.restart_count)


@dataclass(frozen=True, slots=True)
class RestartRule:
    """v1.ContainerRestartRule (KEP-5307): what the kubelet does after certain exit codes."""

    action: str
    negated: bool
    """The operator is NotIn: the rule matches every exit code but these."""
    exit_codes: frozenset[int]

    def matches(self, exit_code: int) -> bool:
        return (exit_code in self.exit_codes) is not self.negated


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a v1.PodSpec, as far as decisions need it."""

    name: str
    image: str
    sidecar: bool
    """An init container with ``restartPolicy: Always``. It starts in its turn and then runs beside
    the rest (KEP-753)."""
    startup_probe: bool
    """It has a startupProbe, and counts as started once that has succeeded. Of the init containers
    only a sidecar may have one."""
    restart_policy: str
    """Its own restartPolicy (KEP-5307), or the Pod's."""
    restart_rules: tuple[RestartRule, ...]
    """Its restartPolicyRules. The first that matches an exit code decides, before the policy."""
    resize_restarts: tuple[tuple[str, str], ...]
    """The requests and limits whose change in place restarts the container, because their
    resizePolicy is RestartContainer (KEP-1287)."""

    def after_exit(self, exit_code: int) -> str:
        """Returns the kubelet's action after an exit with this code: RESTART,
        RESTART_ALL_CONTAINERS, or "" for none."""
        for rule in self.restart_rules:
            if rule.matches(exit_code):
                return rule.action
        if self.restart_policy == "Always":
            return RESTART
        return RESTART if self.restart_policy == "OnFailure" and exit_code else ""


@dataclass(frozen=True, slots=True)
class PodCondition:
    """v1.PodCondition, as far as it is read."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None
    """Its lastTransitionTime."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod, as far as decisions need it."""

    uid: str
    resource_version: str
    owner_uid: str | None
    """UID of the controlling owner."""
    created_at: datetime | None
    run: int | None
    """Number of the run that it was created for."""
    deletion_time: datetime | None
    """When its grace period ends, once somebody asked for its deletion: its deletionTimestamp."""
    finalizers: tuple[str, ...]
    phase: str
    reason: str
    message: str
    node_name: str | None
    scheduling_gated: bool
    """The scheduler leaves it alone until its schedulingGates are removed (KEP-3521)."""
    rerun_in_place: str | None
    """Whether our rules for that were put into it, or why not: RERUN_IN_PLACE_ANNOTATION."""
    effective_resources: EffectiveResources | None
    """What it counts as; of its spec's resources nothing else is kept."""
    conditions: tuple[PodCondition, ...]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]
    """The app containers. As with the init containers, admission may have added some."""
    init_container_statuses: tuple[ContainerStatus, ...]
    container_statuses: tuple[ContainerStatus, ...]

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "Pod":
        metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
        annotations = metadata.get("annotations") or {}
        return cls(
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            owner_uid=_controller_uid(metadata),
            created_at=_time(metadata.get("creationTimestamp")),
            run=_number(annotations.get(RUN_ANNOTATION)),
            deletion_time=_time(metadata.get("deletionTimestamp")),
            finalizers=tuple(metadata.get("finalizers") or ()),
            phase=status.get("phase") or "Pending",
            reason=status.get("reason") or "",
            message=status.get("message") or "",
            node_name=spec.get("nodeName"),
            scheduling_gated=bool(spec.get("schedulingGates")),
            rerun_in_place=annotations.get(RERUN_IN_PLACE_ANNOTATION),
            effective_resources=effective_resources(spec, status),
            conditions=tuple(
                PodCondition(
                    type=c["type"],
                    status=c["status"],
                    reason=c.get("reason") or "",
                    message=c.get("message") or "",
                    since=_time(c.get("lastTransitionTime")),
                )
                for c in status.get("conditions") or ()
            ),
            init_containers=init_containers(spec),
            containers=_containers(spec, "containers"),
            init_container_statuses=_statuses(status.get("initContainerStatuses")),
            container_statuses=_statuses(status.get("containerStatuses")),
        )

    @property
    def deleting(self) -> bool:
        return self.deletion_time is not None

    @property
    def restarts_in_place(self) -> bool:
        """An exit of an app container can restart all containers in this Pod (KEP-5532)."""
        rules = (rule for container in self.containers for rule in container.restart_rules)
        return any(rule.action == RESTART_ALL_CONTAINERS for rule in rules)

    @property
    def ended(self) -> bool:
        """No container of it runs or will run again."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def silent_since(self) -> datetime | None:
        """Since when the next word about it is due: the scheduler's after its creation, the
        kubelet's after it was scheduled. None: all have spoken, or the scheduler said no."""
        if self.phase != "Pending" or self.init_container_statuses or self.deleting:
            return None
        scheduled = self.condition("PodScheduled")
        if scheduled is None:
            return self.created_at
        return scheduled.since if scheduled.status == "True" else None

    def condition(self, type_: str) -> PodCondition | None:
        return next((c for c in self.conditions if c.type == type_), None)

    def has_condition(self, type_: str) -> bool:
        """Whether the condition is present and True."""
        condition = self.condition(type_)
        return condition is not None and condition.status == "True"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An InitPipeline, as far as decisions need it."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    rerun_token: str | None
    template_json: bytes
    """spec.template as canonical JSON: a tenth of the dict's memory."""
    template_hash: str
    """Two templates that mean the same Pod have the same: core.template.digest."""
    policies: Policies
    status: InitPipelineStatus

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "Pipeline":
        """Raises pydantic.ValidationError where spec or status are not what the CRD allows."""
        metadata, template = raw["metadata"], raw["spec"]["template"]
        policies = Policies.model_validate(raw["spec"])
        status = InitPipelineStatus.model_validate(raw.get("status") or {})
        known = _known_hash(status, policies, metadata["generation"])
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            generation=metadata["generation"],
            deleting=bool(metadata.get("deletionTimestamp")),
            rerun_token=(metadata.get("annotations") or {}).get(RERUN_ANNOTATION) or None,
            template_json=canonical_json(template),
            template_hash=known or templates.digest(template),
            policies=policies,
            status=status,
        )

    @property
    def template(self) -> dict[str, Any]:
        template: dict[str, Any] = json.loads(self.template_json)
        return template


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the current run's Pod was not created."""

    reason: Reason
    message: str
    final: bool = False
    """Only a changed spec helps, so that the creation is not retried. No refusal by the API server
    is final."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a decision about one pipeline is made from."""

    pipeline: Pipeline
    pod: Pod | None
    """The Pod that has the pipeline's name, whoever owns it. None: the API says there is none."""
    refusal: Refusal | None = None
    """Set when the creation of the current run's Pod was just refused."""
    refused_in_place: bool = False
    """The Pod that was refused had our rules to restart in place."""
    gone: Pod | None = None
    """The Pod of that name that was there before, as it was when it went. None: nobody told."""


def _known_hash(status: InitPipelineStatus, policies: Policies, generation: int) -> str | None:
    """The hash that was computed for this generation before, since computing it takes 0.1 s for a
    template of 1 MB. While a pipeline is suspended, its status keeps that of the last run."""
    hash_ = status.template_hash
    observed = status.observed_generation == generation and not policies.suspend
    return hash_ if observed and templates.by_these_rules(hash_) else None


def canonical_json(value: Any) -> bytes:
    """One spelling for one value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def init_containers(pod_spec: Mapping[str, Any]) -> tuple[Container, ...]:
    """Returns the init containers of a v1.PodSpec, in order."""
    return _containers(pod_spec, "initContainers")


def _containers(pod_spec: Mapping[str, Any], field: str) -> tuple[Container, ...]:
    pod_policy = pod_spec.get("restartPolicy") or "Always"
    return tuple(
        Container(
            name=container["name"],
            image=container.get("image") or "",
            sidecar=field == "initContainers" and container.get("restartPolicy") == "Always",
            startup_probe=container.get("startupProbe") is not None,
            restart_policy=container.get("restartPolicy") or pod_policy,
            restart_rules=tuple(_rule(rule) for rule in container.get("restartPolicyRules") or ()),
            resize_restarts=_resize_restarts(container),
        )
        for container in pod_spec.get(field) or ()
    )


def _rule(raw: Mapping[str, Any]) -> RestartRule:
    """A rule without exit codes matches none: the API server requires them."""
    codes = raw.get("exitCodes") or {"operator": "In"}
    return RestartRule(
        action=raw.get("action") or "",
        negated=codes.get("operator") == "NotIn",
        exit_codes=frozenset(codes.get("values") or ()),
    )


def _resize_restarts(container: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    restarting = {
        policy.get("resourceName")
        for policy in container.get("resizePolicy") or ()
        if policy.get("restartPolicy") == "RestartContainer"
    }
    resources = container.get("resources") or {}
    return tuple(
        (f"{kind}.{name}", str(amount))
        for kind in ("requests", "limits")
        for name, amount in sorted((resources.get(kind) or {}).items())
        if name in restarting
    )


def _statuses(raw: list[dict[str, Any]] | None) -> tuple[ContainerStatus, ...]:
    return tuple(ContainerStatus(status) for status in raw or ())


def _controller_uid(metadata: Mapping[str, Any]) -> str | None:
    owners = metadata.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _start(state: Mapping[str, Any]) -> datetime | None:
    """Of a v1.ContainerStateRunning or Terminated; where the container could not be started, when
    that was tried."""
    started = _time(state.get("startedAt"))
    return _time(state.get("finishedAt")) if started == _NEVER else started


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() else None
