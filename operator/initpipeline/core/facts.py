"""What the API told, as typed values: the one place where API dicts become facts.

Only what a decision needs is kept, so that a cache of facts stays small; container statuses stay
whole, because they are mirrored verbatim.
"""

import base64
import contextlib
import json
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from initpipeline.api.models import (
    INT32_MAX,
    ApiModel,
    EffectiveResources,
    InitPipelineStatus,
    Policies,
)
from initpipeline.api.names import (
    MAX_MESSAGE_LENGTH,
    NAME_LABEL,
    RERUN_ANNOTATION,
    RERUN_IN_PLACE_ANNOTATION,
    RUN_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from initpipeline.api.reasons import Reason
from initpipeline.api.times import LATEST, parse_time
from initpipeline.core import lenient
from initpipeline.core import template as templates
from initpipeline.core.resources import effective_resources

RESTART_ALL_CONTAINERS = "RestartAllContainers"
"""The action of a container's restartPolicyRules that re-runs the Pod in place (KEP-5532)."""

RESTART = "Restart"
"""The action of a container's restartPolicyRules that restarts that container (KEP-5307)."""


COMPACT = "compact"
"""The field of an object that core.compact has compacted. In the API none has it."""


class UnreadableError(ValueError):
    """An object holds a value that cannot be read. The text is one line: the field and why."""


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The start that the kubelet reports for a container that the runtime could not start."""


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
    container_id: str = ""

    @classmethod
    def from_api(cls, state: Mapping[str, Any] | None) -> "Terminated | None":
        raw = (state or {}).get("terminated")
        if not isinstance(raw, Mapping):
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
    """v1.ContainerStatus: the kubelet's own words (``raw``) and what is read out of them."""

    raw: Mapping[str, Any]

    @property
    def name(self) -> str:
        return lenient.identifier(self.raw.get("name"))

    @property
    def container_id(self) -> str:
        """The runtime's ID of the container, or "" where none was made yet."""
        return lenient.identifier(self.raw.get("containerID"))

    @property
    def restart_count(self) -> int:
        return min(lenient.count(self.raw.get("restartCount")), INT32_MAX - 1)

    @property
    def started(self) -> bool:
        """Running, and past its startup probe: what makes a sidecar initialized."""
        return self.raw.get("started") is True

    @property
    def ready(self) -> bool:
        return self.raw.get("ready") is True

    @property
    def waiting(self) -> Mapping[str, Any] | None:
        waiting = self._state.get("waiting")
        return waiting if isinstance(waiting, Mapping) else None

    @property
    def waiting_reason(self) -> str:
        return lenient.identifier((self.waiting or {}).get("reason"))

    @property
    def running(self) -> bool:
        return "running" in self._state

    @property
    def terminated(self) -> Terminated | None:
        return Terminated.from_api(self._state)

    @property
    def last_terminated(self) -> Terminated | None:
        return Terminated.from_api(lenient.mapping(self.raw.get("lastState")))

    @property
    def started_at(self) -> datetime | None:
        """When the container of the present state started; None while it waits."""
        state = self._state
        return _start(lenient.mapping(state.get("running") or state.get("terminated")))

    @property
    def _state(self) -> Mapping[str, Any]:
        return lenient.mapping(self.raw.get("state"))

    @property
    def ever_started(self) -> bool:
        return bool(self.started_at or self.last_terminated or self.restart_count)


@dataclass(frozen=True, slots=True)
class RestartRule:
    """v1.ContainerRestartRule (KEP-5307): what the kubelet does after certain exit codes."""

    action: str
    negated: bool
    """The operator is NotIn: the rule matches every exit code but these."""
    exit_codes: bytes
    """Native int32 numbers. A Pod may have a thousand rules with 255 codes each, and sets of them
    take up ten times as much memory."""

    def matches(self, exit_code: int) -> bool:
        return (exit_code in memoryview(self.exit_codes).cast("i")) is not self.negated


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
    labelled: bool
    """It has the operator's label, so that the watch by label shows it."""
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
    """The Pod has schedulingGates, so the scheduler does not consider it (KEP-3521)."""
    template_text: str | None
    """Its template, as core.template.packed wrote it. Not validated: users can write it."""
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
        """Returns the Pod. A field that cannot be read counts as absent. Raises UnreadableError for
        an object without the metadata that the API server sets."""
        with _unreadable_as_error("Pod"):
            return cls._read(raw)

    @classmethod
    def _read(cls, raw: Mapping[str, Any]) -> "Pod":
        metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
        annotations = metadata.get("annotations") or {}
        return cls(
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            owner_uid=_controller_uid(metadata),
            labelled=NAME_LABEL in lenient.mapping(metadata.get("labels")),
            created_at=parse_time(metadata.get("creationTimestamp")),
            run=lenient.number(annotations.get(RUN_ANNOTATION)),
            deletion_time=_deletion_time(metadata),
            finalizers=tuple(filter(None, map(lenient.text, metadata.get("finalizers") or ()))),
            phase=lenient.text(status.get("phase")) or "Pending",
            reason=lenient.reason(status.get("reason")),
            message=lenient.text(status.get("message")),
            node_name=lenient.identifier(spec.get("nodeName")) or None,
            scheduling_gated=bool(spec.get("schedulingGates")),
            template_text=_short(annotations.get(TEMPLATE_ANNOTATION), templates.LARGEST_PACKED),
            rerun_in_place=lenient.text(annotations.get(RERUN_IN_PLACE_ANNOTATION)) or None,
            effective_resources=effective_resources(spec, status),
            conditions=_conditions(status.get("conditions")),
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
        """Whether an exit of an app container can restart all containers of the Pod (KEP-5532)."""
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
    template_zip: bytes
    """spec.template as canonical JSON, compressed: many templates of 1 MB must fit into memory."""
    template_hash: str
    """core.template.digest: equal if the API server would store the same Pod. "": not computed
    yet, see ``hashed``."""
    size: int
    """Its size as JSON without status, in bytes."""
    policies: Policies
    status: InitPipelineStatus

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "Pipeline":
        """Returns the InitPipeline. Raises UnreadableError if another version of the CRD stored its
        spec or status, or another client wrote a status that cannot be read."""
        return cls.from_api_unhashed(raw).hashed()

    @classmethod
    def from_api_unhashed(cls, raw: Mapping[str, Any]) -> "Pipeline":
        """Returns the InitPipeline without computing its template_hash: "" unless its status has
        it."""
        with _unreadable_as_error("InitPipeline"):
            return cls._read(raw)

    @classmethod
    def _read(cls, raw: Mapping[str, Any]) -> "Pipeline":
        metadata = raw["metadata"]
        annotations = metadata.get("annotations") or {}
        policies = _validated(Policies, "spec", raw["spec"])
        status = _status(raw.get("status") or {})
        zipped, size = _template(raw)
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            generation=metadata["generation"],
            deleting=bool(metadata.get("deletionTimestamp")),
            rerun_token=lenient.identifier(annotations.get(RERUN_ANNOTATION)) or None,
            template_zip=zipped,
            template_hash=_known_hash(status, policies, metadata["generation"]) or "",
            size=size,
            policies=policies,
            status=status,
        )

    def hashed(self) -> "Pipeline":
        """Returns the pipeline with its template_hash. Computing it takes 0.3 s for a template of
        1 MB, too long for the handler of a watch event."""
        if self.template_hash:
            return self
        return replace(self, template_hash=templates.digest(self.template))

    @property
    def template_json(self) -> bytes:
        """spec.template as canonical JSON: what the hash is of."""
        return zlib.decompress(self.template_zip)

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


def without_template(raw: Mapping[str, Any]) -> list[Any]:
    """Returns the parts of an InitPipeline that take up space beside its template and status."""
    return [raw["metadata"], {**raw["spec"], "template": None}]


def _template(raw: Mapping[str, Any]) -> tuple[bytes, int]:
    """Returns the template as canonical JSON, compressed, and the size of the object without its
    status."""
    small = raw.get(COMPACT)
    if small is not None:
        return base64.b64decode(small["template"]), small["size"]
    spec = lenient.mapping(raw["spec"]["template"]).get("spec")
    for field in ("containers", "initContainers"):
        for container in lenient.mapping(spec).get(field) or ():
            if not lenient.text(lenient.mapping(container).get("name")):
                raise UnreadableError(f"spec.template.spec.{field}: an item has no name")
    written = canonical_json(raw["spec"]["template"])
    return zlib.compress(written, 1), len(written) + len(canonical_json(without_template(raw)))


def _known_hash(status: InitPipelineStatus, policies: Policies, generation: int) -> str | None:
    """Returns the hash that status has for this generation. None: it has none.

    Computing it takes 0.1 s for a template of 1 MB. While a pipeline is suspended, status keeps the
    hash of the last run, so it is not used.
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
        where = ".".join(str(part) for part in (field, *first["loc"]))
        raise UnreadableError(f"{where}: {first['msg']}") from error


def _status(raw: object) -> InitPipelineStatus:
    status = _validated(InitPipelineStatus, "status", raw)
    if status.run is not None and status.run.number >= INT32_MAX:
        raise UnreadableError("status.run.number: no run can follow one of this number")
    return status


@contextlib.contextmanager
def _unreadable_as_error(kind: str) -> Iterator[None]:
    try:
        yield
    except UnreadableError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        words = " ".join(str(error).split())[:200]
        raise UnreadableError(f"not a valid {kind}: {type(error).__name__}: {words}") from error
    except RecursionError as error:
        raise UnreadableError(f"not a valid {kind}: it is nested too deeply") from error


def canonical_json(value: Any) -> bytes:
    """Returns the value as JSON with sorted keys, so that equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def init_containers(pod_spec: Mapping[str, Any]) -> tuple[Container, ...]:
    """Returns the init containers of a v1.PodSpec, in order."""
    return _containers(pod_spec, "initContainers")


def _containers(pod_spec: Mapping[str, Any], field: str) -> tuple[Container, ...]:
    """Returns the containers in order, each name once."""
    pod_policy = pod_spec.get("restartPolicy") or "Always"
    found = (
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
    return tuple({container.name: container for container in found}.values())


def _rule(raw: Mapping[str, Any]) -> RestartRule:
    """Returns the rule. One without exit codes, which the API server does not accept, matches
    none."""
    codes = raw.get("exitCodes") or {"operator": "In"}
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
    resources = container.get("resources") or {}
    return tuple(
        (f"{kind}.{name}", lenient.identifier(str(amount)))
        for kind in ("requests", "limits")
        for name, amount in sorted((resources.get(kind) or {}).items())
        if name in restarting
    )


def _statuses(raw: object) -> tuple[ContainerStatus, ...]:
    """Returns the last status of each name: users may write two statuses of one name."""
    statuses = (ContainerStatus(status) for status in lenient.mappings(raw))
    return tuple({status.name: status for status in statuses if status.name}.values())


def _conditions(raw: object) -> tuple[PodCondition, ...]:
    return tuple(
        PodCondition(
            type=lenient.text(condition.get("type")),
            status=lenient.text(condition.get("status")),
            reason=lenient.reason(condition.get("reason")),
            message=lenient.text(condition.get("message")),
            since=parse_time(condition.get("lastTransitionTime")),
        )
        for condition in lenient.mappings(raw)
    )


def _deletion_time(metadata: Mapping[str, Any]) -> datetime | None:
    """Returns the deletionTimestamp. LATEST if it cannot be read: the Pod is being deleted all the
    same. None: there is none."""
    value = metadata.get("deletionTimestamp")
    return (parse_time(value) or LATEST) if value else None


def _short(text: Any, limit: int) -> str | None:
    return text if isinstance(text, str) and len(text) <= limit else None


def _controller_uid(metadata: Mapping[str, Any]) -> str | None:
    owners = metadata.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _start(state: Mapping[str, Any]) -> datetime | None:
    """Of a v1.ContainerStateRunning or Terminated; where the container could not be started, when
    that was tried."""
    started = parse_time(state.get("startedAt"))
    return parse_time(state.get("finishedAt")) if started == _NEVER else started
