"""Pods and InitPipelines as typed values, converted from the API's JSON. The modules ``resources``,
``mirror`` and ``template`` read JSON as well.

Only the fields that a decision needs are kept, so that the cache stays small. Container statuses
are kept whole, because they are mirrored verbatim.
"""

import base64
import contextlib
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar, get_args

from pydantic import ValidationError

from initpipeline.api.models import (
    INT32_MAX,
    ApiModel,
    EffectiveResources,
    InitPipelineStatus,
    Policies,
)
from initpipeline.api.names import (
    BUCKET_LABEL,
    GROUP,
    KIND,
    MAX_IDENTIFIER_LENGTH,
    MAX_MESSAGE_LENGTH,
    NAME_LABEL,
    RERUN_ANNOTATION,
    RERUN_IN_PLACE_ANNOTATION,
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    RUN_GATE,
    TEMPLATE_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
)
from initpipeline.api.reasons import Reason
from initpipeline.api.times import LATEST, parse_time
from initpipeline.core import lenient, resources
from initpipeline.core import template as templates
from initpipeline.core.encoding import decode, encode

RESTART_ALL_CONTAINERS = "RestartAllContainers"
"""The action of a container's restartPolicyRules that re-runs the Pod in place (KEP-5532)."""

RESTART = "Restart"
"""The action of a container's restartPolicyRules that restarts that container (KEP-5307)."""


COMPACT = "compact"
"""A field that only core.compact adds, with the compressed template. No API object has it."""


class UnreadableError(ValueError):
    """An object holds a value that cannot be read. The message is one line: the field and why."""


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The start that the kubelet reports for a container that the runtime could not start."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """How a container terminated: v1.ContainerStateTerminated."""

    exit_code: int
    signal: int | None
    reason: str | None
    message: str | None
    started_at: datetime | None
    """When the container started. If it could not be started (StartError): when the kubelet
    tried."""
    finished_at: datetime | None
    container_id: str = ""

    @classmethod
    def from_api(cls, state: Mapping[str, Any]) -> "Terminated | None":
        """Returns the termination in a v1.ContainerState. None: the container waits or runs."""
        raw = state.get("terminated")
        if not isinstance(raw, dict):
            return None
        return cls(
            exit_code=lenient.int32(raw.get("exitCode")),
            signal=lenient.int32(raw.get("signal")) or None,
            reason=lenient.reason(raw.get("reason")) or None,
            message=lenient.text(raw.get("message")) or None,
            started_at=_start(raw),
            finished_at=parse_time(raw.get("finishedAt")),
            container_id=lenient.identifier(raw.get("containerID")),
        )


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """v1.ContainerStatus, as the kubelet reported it."""

    raw: Mapping[str, Any]
    """The JSON, for the mirror."""
    name: str
    container_id: str
    """The container runtime's ID of the container. "" until the container is created."""
    restart_count: int
    started: bool
    """Whether the container runs and its startup probe has succeeded. A sidecar in this state
    counts as initialized (KEP-753)."""
    ready: bool
    waiting: Mapping[str, Any] | None
    running: bool
    terminated: Terminated | None
    last_terminated: Terminated | None
    started_at: datetime | None
    """When the current instance of the container started. None if the state is waiting."""

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "ContainerStatus":
        """Returns the status. A field that cannot be read counts as absent."""
        state = lenient.mapping(raw.get("state"))
        waiting, running = state.get("waiting"), state.get("running")
        return cls(
            raw=raw,
            name=lenient.identifier(raw.get("name")),
            container_id=lenient.identifier(raw.get("containerID")),
            restart_count=min(lenient.count(raw.get("restartCount")), INT32_MAX - 1),
            started=raw.get("started") is True,
            ready=raw.get("ready") is True,
            waiting=waiting if isinstance(waiting, dict) else None,
            running="running" in state,
            terminated=Terminated.from_api(state),
            last_terminated=Terminated.from_api(lenient.mapping(raw.get("lastState"))),
            started_at=_start(lenient.mapping(running or state.get("terminated"))),
        )

    @property
    def waiting_reason(self) -> str:
        return lenient.identifier(self.waiting.get("reason")) if self.waiting else ""

    @property
    def ever_started(self) -> bool:
        """The container has started at least once in this Pod."""
        return bool(self.started_at or self.last_terminated or self.restart_count)


@dataclass(frozen=True, slots=True)
class RestartRule:
    """v1.ContainerRestartRule (KEP-5307): the kubelet's action after certain exit codes."""

    action: str
    negated: bool
    """The rule's operator is NotIn, so it matches all exit codes except these."""
    exit_codes: bytes
    """An array of native int32 numbers. A Pod may have a thousand rules with 255 codes each, and a
    set would take ten times the memory."""

    def matches(self, exit_code: int) -> bool:
        """Returns whether the rule applies to an exit with this code."""
        return (exit_code in memoryview(self.exit_codes).cast("i")) is not self.negated


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a v1.PodSpec, as far as decisions need it."""

    name: str
    image: str
    sidecar: bool
    """An init container with ``restartPolicy: Always``. It starts in order, like the others, and
    keeps running while the next containers run (KEP-753)."""
    startup_probe: bool
    """The container has a startupProbe, and counts as started when the probe has succeeded. Among
    init containers, only sidecars can have one."""
    restart_policy: str
    """The container's restartPolicy (KEP-5307). If the container has none, the Pod's."""
    restart_rules: tuple[RestartRule, ...]
    """The container's restartPolicyRules. The first rule that matches the exit code applies. If no
    rule matches, restart_policy applies."""
    resize_restarts: tuple[tuple[str, str], ...]
    """The requests and limits whose resizePolicy is RestartContainer, as pairs of path and amount.
    An in-place resize of one restarts the container (KEP-1287)."""

    def after_exit(self, exit_code: int) -> str:
        """Returns the kubelet's action after an exit with this code: RESTART,
        RESTART_ALL_CONTAINERS, or "" for none."""
        for rule in self.restart_rules:
            if rule.matches(exit_code):
                return rule.action
        if self.restart_policy == "Always":
            return RESTART
        return RESTART if self.restart_policy == "OnFailure" and exit_code else ""


_SPEC_FIELDS: Final = frozenset({"overhead", "resources", "restartPolicy"})
"""The fields of a v1.PodSpec that PodSpec reads, besides the containers."""
_CONTAINER_FIELDS: Final = frozenset(
    {
        "image",
        "name",
        "resizePolicy",
        "resources",
        "restartPolicy",
        "restartPolicyRules",
        "startupProbe",
    }
)
"""The fields of a v1.Container that are read."""


def read_fields(spec: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """Returns the fields of a v1.PodSpec that PodSpec reads, and these others."""
    fields = {name: spec[name] for name in spec.keys() & {*_SPEC_FIELDS, *others}}
    for key in ("initContainers", "containers"):
        fields[key] = [
            {name: container[name] for name in container.keys() & _CONTAINER_FIELDS}
            for container in lenient.mappings(spec.get(key))
        ]
    return fields


_LARGEST_KEPT: Final = 4096
"""In bytes of JSON. Larger specs are not kept in memory for the next Pod."""


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What decisions need of the containers of a v1.PodSpec."""

    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]
    """The app containers."""
    effective_resources: EffectiveResources | None
    """See core.resources."""

    @classmethod
    def from_api(
        cls, spec: Mapping[str, Any], status: Mapping[str, Any] | None = None
    ) -> "PodSpec":
        """Returns the containers of the spec, and its effective resources with this v1.PodStatus.

        Each event of a Pod repeats its spec, and many Pods have the same. So the last results are
        kept in memory, and Pods share them.
        """
        data = encode([read_fields(spec), resources.counted(status or {})])
        return _kept_spec(data) if len(data) <= _LARGEST_KEPT else _pod_spec(data)


PodConditionType = Literal[
    "AllContainersRestarting",
    "ContainersReady",
    "DisruptionTarget",
    "PodResizePending",
    "PodScheduled",
    "Ready",
]
"""The types of the conditions that decisions need. No others are kept."""
_CONDITIONS: Final = frozenset(get_args(PodConditionType))


@dataclass(frozen=True, slots=True)
class PodCondition:
    """The fields of a v1.PodCondition that decisions need."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None
    """The lastTransitionTime."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The fields of a v1.Pod that decisions need. Two versions of a Pod are equal if no decision
    depends on which of them is read."""

    uid: str
    resource_version: str = field(compare=False)
    owner_uid: str | None
    """UID of the controlling owner."""
    only_owner_is_pipeline: bool
    """The controlling owner is an InitPipeline of the Pod's name, and there is no other owner."""
    labelled: bool
    """The Pod has the operator's label, so the operator's watch of Pods reports it."""
    created_at: datetime | None
    run: int | None
    """Number of the run that the Pod was created for. None: the annotation is missing or cannot be
    read."""
    template_hash: str | None
    """The hash of the template that the Pod was created from. None: the annotation is missing, or
    its value is not a hash by the present rules of core.template."""
    rerun_token: str | None
    """The last rerun token for which a run had started when the Pod was created. "": no run had
    been requested. None: the annotation is missing."""
    deletion_time: datetime | None
    """The deletionTimestamp: when the grace period ends. None: the Pod is not being deleted."""
    finalizers: tuple[str, ...]
    phase: str
    reason: str
    message: str
    node_name: str | None
    scheduling_gated: bool
    """The Pod has schedulingGates that another client must remove, so the scheduler does not
    consider it (KEP-3521)."""
    run_gated: bool
    """The Pod has the scheduling gate that the operator itself removes."""
    template_text: str | None
    """The template that the Pod was created from, as core.template.packed wrote it. It is not
    validated, and users can change it."""
    rerun_in_place: str | None
    """The value of RERUN_IN_PLACE_ANNOTATION: whether the operator added its restart rules to the
    Pod, or why it did not."""
    effective_resources: EffectiveResources | None
    """See core.resources. No other resources of the Pod's spec are kept."""
    conditions: tuple[PodCondition, ...]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]
    """The app containers. Admission may have added containers, here and to init_containers."""
    init_container_statuses: tuple[ContainerStatus, ...]
    container_statuses: tuple[ContainerStatus, ...]

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "Pod":
        """Returns the Pod. A field that cannot be read counts as absent.

        Raises UnreadableError if the metadata that the API server sets is missing.
        """
        with _unreadable_as_error("Pod"):
            return cls._read(raw)

    @classmethod
    def _read(cls, raw: Mapping[str, Any]) -> "Pod":
        metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
        annotations = metadata.get("annotations") or {}
        known = PodSpec.from_api(spec, status)
        gates = {lenient.text(g.get("name")) for g in lenient.mappings(spec.get("schedulingGates"))}
        return cls(
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            owner_uid=_controller_uid(metadata),
            only_owner_is_pipeline=_only_owner_is_pipeline(metadata),
            labelled=NAME_LABEL in lenient.mapping(metadata.get("labels")),
            created_at=parse_time(metadata.get("creationTimestamp")),
            run=lenient.run_number(annotations.get(RUN_ANNOTATION)),
            template_hash=_known(annotations.get(TEMPLATE_HASH_ANNOTATION)),
            rerun_token=_short(annotations.get(RERUN_TOKEN_ANNOTATION), MAX_IDENTIFIER_LENGTH),
            deletion_time=_deletion_time(metadata),
            finalizers=tuple(filter(None, map(lenient.text, metadata.get("finalizers") or ()))),
            phase=lenient.text(status.get("phase")) or "Pending",
            reason=lenient.reason(status.get("reason")),
            message=lenient.text(status.get("message")),
            node_name=lenient.identifier(spec.get("nodeName")) or None,
            scheduling_gated=bool(gates - {RUN_GATE}),
            run_gated=RUN_GATE in gates,
            template_text=_short(annotations.get(TEMPLATE_ANNOTATION), templates.LARGEST_PACKED),
            rerun_in_place=lenient.reason(annotations.get(RERUN_IN_PLACE_ANNOTATION)) or None,
            effective_resources=known.effective_resources,
            conditions=_conditions(status.get("conditions")),
            init_containers=known.init_containers,
            containers=known.containers,
            init_container_statuses=_statuses(status.get("initContainerStatuses")),
            container_statuses=_statuses(status.get("containerStatuses")),
        )

    @property
    def deleting(self) -> bool:
        return self.deletion_time is not None

    @property
    def sidecars(self) -> frozenset[str]:
        """The names of the init containers that are sidecars."""
        return frozenset(one.name for one in self.init_containers if one.sidecar)

    @property
    def all_statuses(self) -> tuple[ContainerStatus, ...]:
        """The statuses of the init containers and of the app containers."""
        return (*self.init_container_statuses, *self.container_statuses)

    @property
    def restarts_in_place(self) -> bool:
        """An exit of an app container can restart all containers of the Pod (KEP-5532)."""
        rules = (rule for container in self.containers for rule in container.restart_rules)
        return any(rule.action == RESTART_ALL_CONTAINERS for rule in rules)

    @property
    def ended(self) -> bool:
        """The Pod's phase is final: no container runs or will run again."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def silent_since(self) -> datetime | None:
        """The time from which the operator waits for the kubelet's first report on a new Pod:
        lastTransitionTime of PodScheduled, or the creation of the Pod if the scheduler has not
        reported yet. None: the kubelet has reported init container statuses, or the Pod is
        unschedulable, held by the operator's gate, not Pending, or terminating."""
        if self.phase != "Pending" or self.init_container_statuses or self.deleting:
            return None
        if self.run_gated:
            return None
        scheduled = self.condition("PodScheduled")
        if scheduled is None:
            return self.created_at
        return scheduled.since if scheduled.status == "True" else None

    def condition(self, type_: PodConditionType) -> PodCondition | None:
        """Returns the condition of this type. None: the Pod does not have it."""
        return next((c for c in self.conditions if c.type == type_), None)

    def has_condition(self, type_: PodConditionType) -> bool:
        """Returns whether the condition is present and True."""
        condition = self.condition(type_)
        return condition is not None and condition.status == "True"


@dataclass(frozen=True, slots=True)
class PipelineMetadata:
    """The metadata of an InitPipeline that the API server sets."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool


def pipeline_metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of PipelineMetadata. Raises LookupError, TypeError or AttributeError if
    the object does not have them."""
    metadata = raw["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resource_version": metadata["resourceVersion"],
        "generation": metadata["generation"],
        "deleting": bool(metadata.get("deletionTimestamp")),
    }


@dataclass(frozen=True, slots=True)
class Pipeline(PipelineMetadata):
    """The fields of an InitPipeline that decisions need."""

    rerun_token: str | None
    """The value of the annotation by which users request a run. None: there is no annotation."""
    bucket: str
    """The value of BUCKET_LABEL, which the Pod gets as well. "": there is no such label."""
    template_zip: bytes
    """spec.template as canonical JSON, compressed so that many templates of 1 MB fit in memory."""
    template_hash: str
    """core.template.digest of the template: two templates share it if the API server would store
    the same Pod for both. "" until it is computed, see ``hashed``."""
    size: int
    """Bytes of the InitPipeline as JSON, without status."""
    created_at: datetime | None
    policies: Policies
    status: InitPipelineStatus

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "Pipeline":
        """Returns the InitPipeline, with its template_hash.

        Raises UnreadableError if the spec or the status does not match the schema. Another version
        of the CRD may have stored it, or another client may have written the status.
        """
        return cls.from_api_unhashed(raw).hashed()

    @classmethod
    def from_api_unhashed(
        cls, raw: Mapping[str, Any], before: "Pipeline | None" = None
    ) -> "Pipeline":
        """Returns the InitPipeline. The template_hash is copied from status, or "".

        ``before`` is the version whose status was written, if ``raw`` is the answer to that write.
        Its template is not read again: the API server refuses the write if the InitPipeline has
        changed. Raises UnreadableError like ``from_api``.
        """
        with _unreadable_as_error("InitPipeline"):
            return cls._read(raw, before)

    @classmethod
    def _read(cls, raw: Mapping[str, Any], before: "Pipeline | None") -> "Pipeline":
        metadata = pipeline_metadata(raw)
        annotations = raw["metadata"].get("annotations") or {}
        policies = _validated(Policies, "spec", raw["spec"])
        status = _status(raw.get("status") or {})
        if before is not None and before.generation == metadata["generation"]:
            zipped, size, hash_ = before.template_zip, before.size, before.template_hash
        else:
            zipped, size = _template(raw)
            hash_ = _known_hash(status, policies, metadata["generation"]) or ""
        return cls(
            **metadata,
            rerun_token=lenient.identifier(annotations.get(RERUN_ANNOTATION)) or None,
            bucket=lenient.text(lenient.mapping(raw["metadata"].get("labels")).get(BUCKET_LABEL)),
            template_zip=zipped,
            template_hash=hash_,
            size=size,
            created_at=parse_time(raw["metadata"].get("creationTimestamp")),
            policies=policies,
            status=status,
        )

    def hashed(self) -> "Pipeline":
        """Returns the pipeline with its template_hash, computed if necessary. That takes 0.3 s for
        a template of 1 MB, so the reconcile computes it in a thread."""
        if self.template_hash:
            return self
        return replace(self, template_hash=templates.digest(self.template))

    @property
    def template_json(self) -> bytes:
        """spec.template as canonical JSON, decompressed at each call."""
        return zlib.decompress(self.template_zip)

    @property
    def template(self) -> dict[str, Any]:
        """spec.template, parsed at each call."""
        template: dict[str, Any] = decode(self.template_json)
        return template


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server, or the operator's own validation, refused the current run's Pod."""

    reason: Reason
    message: str
    final: bool = False
    """The creation is not retried until the spec changes. The API server's refusals are never
    final, because quotas, policies and webhooks change."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of a decision about one InitPipeline, besides the current time."""

    pipeline: Pipeline
    pod: Pod | None
    """The Pod with the pipeline's name, whether or not the pipeline owns it. None: there is no such
    Pod."""
    refusal: Refusal | None = None
    """Why the current run's Pod cannot be created: the API server refused it in this reconcile, or
    the operator's validation of the spec failed."""
    refused_in_place: bool = False
    """The refused Pod contained the operator's rules for a restart in place."""
    gone: Pod | None = None
    """The last state of the deleted Pod, from the DELETED event. None: no such event was received,
    or a Pod with this name exists."""
    gate_refused: bool = False
    """The API server has refused, in this reconcile, to remove the operator's scheduling gate."""
    failed: Refusal | None = None
    """Why the last requests to create the current run's Pod failed, if not because of this Pod. The
    Pod may exist nevertheless. None: at most one request in a row has failed."""
    undeleted: str | None = None
    """The error of the last request to delete the Pod or the InitPipeline. None: at most one
    request in a row has failed, or this process has sent none yet."""

    def with_pipeline(self, pipeline: Pipeline) -> "Facts":
        """Returns the facts with this version of the pipeline."""
        return self if pipeline is self.pipeline else replace(self, pipeline=pipeline)


def zipped_template(raw: Mapping[str, Any]) -> tuple[bytes, int]:
    """Returns the template of an InitPipeline as compressed canonical JSON, and the bytes of the
    InitPipeline as JSON, without status."""
    written = encode(raw["spec"]["template"])
    others = [raw["metadata"], {**raw["spec"], "template": None}]
    return zlib.compress(written, 1), len(written) + len(encode(others))


def field_without_name(template: object) -> str | None:
    """Returns the list of containers that has an item without a name. None: all have names."""
    spec = lenient.mapping(lenient.mapping(template).get("spec"))
    for key in ("containers", "initContainers"):
        for container in spec.get(key) or ():
            if not lenient.text(lenient.mapping(container).get("name")):
                return key
    return None


def _template(raw: Mapping[str, Any]) -> tuple[bytes, int]:
    """Returns the template as compressed canonical JSON, and the object's size without status."""
    small = raw.get(COMPACT)
    if small is not None:
        return base64.b64decode(small["template"]), small["size"]
    unnamed = field_without_name(raw["spec"]["template"])
    if unnamed is not None:
        raise UnreadableError(f"spec.template.spec.{unnamed}: an item has no name")
    return zipped_template(raw)


def _known_hash(status: InitPipelineStatus, policies: Policies, generation: int) -> str | None:
    """Returns the hash in status if it is that of the current template. None: it may be that of
    another template.

    While a pipeline is suspended, status keeps the hash of the last run's template.
    """
    hash_ = status.template_hash
    observed = status.observed_generation == generation and not policies.suspend
    return hash_ if observed and templates.by_these_rules(hash_) else None


M = TypeVar("M", bound=ApiModel)


def _validated(model: type[M], field: str, raw: object) -> M:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in (field, *first["loc"]))
        raise UnreadableError(f"{path}: {first['msg']}") from error


def _status(raw: object) -> InitPipelineStatus:
    status = _validated(InitPipelineStatus, "status", raw)
    if status.run is not None and status.run.number >= INT32_MAX:
        raise UnreadableError("status.run.number: there is no next number for another run")
    return status


@contextlib.contextmanager
def _unreadable_as_error(kind: str) -> Iterator[None]:
    try:
        yield
    except UnreadableError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        message = " ".join(str(error).split())[:200]
        raise UnreadableError(f"not a valid {kind}: {type(error).__name__}: {message}") from error
    except RecursionError as error:
        raise UnreadableError(f"not a valid {kind}: it is nested too deeply") from error


def init_containers(pod_spec: Mapping[str, Any]) -> tuple[Container, ...]:
    """Returns the init containers of a v1.PodSpec, in order."""
    return PodSpec.from_api(pod_spec).init_containers


def _pod_spec(data: bytes) -> PodSpec:
    spec, status = decode(data)
    return PodSpec(
        init_containers=_containers(spec, "initContainers"),
        containers=_containers(spec, "containers"),
        effective_resources=resources.effective_resources(spec, status),
    )


_kept_spec: Final = lru_cache(maxsize=256)(_pod_spec)


def _containers(pod_spec: Mapping[str, Any], field: str) -> tuple[Container, ...]:
    """Returns the containers in order. If two have the same name, the last one is returned, at the
    position of the first."""
    pod_policy = pod_spec.get("restartPolicy") or "Always"
    containers = (
        Container(
            name=lenient.identifier(container.get("name")),
            image=lenient.text(container.get("image"))[:MAX_MESSAGE_LENGTH],
            sidecar=field == "initContainers" and container.get("restartPolicy") == "Always",
            startup_probe=container.get("startupProbe") is not None,
            restart_policy=container.get("restartPolicy") or pod_policy,
            restart_rules=tuple(
                _rule(rule) for rule in lenient.mappings(container.get("restartPolicyRules"))
            ),
            resize_restarts=_resize_restarts(container),
        )
        for container in lenient.mappings(pod_spec.get(field))
    )
    return tuple({container.name: container for container in containers}.values())


def _rule(raw: Mapping[str, Any]) -> RestartRule:
    """Returns the rule. A rule without exitCodes matches no exit code. The API server refuses such
    a rule."""
    codes = raw.get("exitCodes") or {}
    return RestartRule(
        action=raw.get("action") or "",
        negated=codes.get("operator") == "NotIn",
        exit_codes=array("i", map(lenient.int32, codes.get("values") or ())).tobytes(),
    )


def _resize_restarts(container: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    restarting = {
        policy.get("resourceName")
        for policy in lenient.mappings(container.get("resizePolicy"))
        if policy.get("restartPolicy") == "RestartContainer"
    }
    given = container.get("resources") or {}
    return tuple(
        (f"{kind}.{name}", lenient.identifier(str(amount)))
        for kind in ("requests", "limits")
        for name, amount in sorted((given.get(kind) or {}).items())
        if name in restarting
    )


def _statuses(raw: object) -> tuple[ContainerStatus, ...]:
    """Returns the last status of each name, because users can write two statuses of one name."""
    statuses = map(ContainerStatus.from_api, lenient.mappings(raw))
    return tuple({status.name: status for status in statuses if status.name}.values())


def _conditions(raw: object) -> tuple[PodCondition, ...]:
    return tuple(
        PodCondition(
            type=type_,
            status=lenient.text(condition.get("status")),
            reason=lenient.reason(condition.get("reason")),
            message=lenient.text(condition.get("message")),
            since=parse_time(condition.get("lastTransitionTime")),
        )
        for condition in lenient.mappings(raw)
        if (type_ := lenient.text(condition.get("type"))) in _CONDITIONS
    )


def _deletion_time(metadata: Mapping[str, Any]) -> datetime | None:
    """Returns the deletionTimestamp. None: the object is not being deleted. LATEST: it is being
    deleted, but the time cannot be read."""
    value = metadata.get("deletionTimestamp")
    return (parse_time(value) or LATEST) if value else None


def _known(hash_: object) -> str | None:
    return hash_ if isinstance(hash_, str) and templates.by_these_rules(hash_) else None


def _short(text: Any, limit: int) -> str | None:
    return text if isinstance(text, str) and len(text) <= limit else None


def _controller_uid(metadata: Mapping[str, Any]) -> str | None:
    owners = metadata.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _only_owner_is_pipeline(metadata: Mapping[str, Any]) -> bool:
    expected = {"kind": KIND, "name": metadata.get("name"), "controller": True}
    owners: list[dict[str, Any]] = metadata.get("ownerReferences") or []
    if len(owners) != 1 or not expected.items() <= owners[0].items():
        return False
    # Another project may have a kind of this name.
    return lenient.text(owners[0].get("apiVersion")).partition("/")[0] == GROUP


def _start(state: Mapping[str, Any]) -> datetime | None:
    """Returns the start time in a v1.ContainerStateRunning or ContainerStateTerminated. If the
    container could not be started, returns the time of the attempt."""
    started = parse_time(state.get("startedAt"))
    return parse_time(state.get("finishedAt")) if started == _NEVER else started
