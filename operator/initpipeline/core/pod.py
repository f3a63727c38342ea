"""A Pod, read from a v1.Pod. Only the fields that decisions need are kept, so that the cache stays
small."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from initpipeline.api.models import EffectiveResources
from initpipeline.api.names import (
    GROUP,
    KIND,
    MAX_IDENTIFIER_LENGTH,
    NAME_LABEL,
    RERUN_IN_PLACE_ANNOTATION,
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    RUN_GATE,
    TEMPLATE_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
)
from initpipeline.api.times import LATEST, parse_time
from initpipeline.core import lenient
from initpipeline.core.container_status import ContainerStatus
from initpipeline.core.containers import RESTART_ALL_CONTAINERS, Container, PodSpec
from initpipeline.core.errors import unreadable_as_error
from initpipeline.core.template import is_comparable
from initpipeline.core.template_annotation import LARGEST_PACKED

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
    its value is not a hash that is_comparable."""
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
    """The template that the Pod was created from, as template_annotation.packed wrote it. It is not
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
        with unreadable_as_error("Pod"):
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
            template_hash=_comparable(annotations.get(TEMPLATE_HASH_ANNOTATION)),
            rerun_token=_short(annotations.get(RERUN_TOKEN_ANNOTATION), MAX_IDENTIFIER_LENGTH),
            deletion_time=_deletion_time(metadata),
            finalizers=tuple(filter(None, map(lenient.text, metadata.get("finalizers") or ()))),
            phase=lenient.text(status.get("phase")) or "Pending",
            reason=lenient.reason(status.get("reason")),
            message=lenient.text(status.get("message")),
            node_name=lenient.identifier(spec.get("nodeName")) or None,
            scheduling_gated=bool(gates - {RUN_GATE}),
            run_gated=RUN_GATE in gates,
            template_text=_short(annotations.get(TEMPLATE_ANNOTATION), LARGEST_PACKED),
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


def _comparable(hash_: object) -> str | None:
    return hash_ if isinstance(hash_, str) and is_comparable(hash_) else None


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
