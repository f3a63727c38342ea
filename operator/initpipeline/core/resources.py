"""Computes a Pod's effective requests and limits, by which the scheduler and quota count it.

- Init containers run one after the other, so the largest one counts, not their sum. A sidecar runs
  beside all containers after it, so it is added to each of them (KEP-753).
- Pod-level resources replace the sum over the containers (KEP-2837).
- During a resize in place, the larger of the requested and the allocated amount counts (KEP-1287).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api.models import EffectiveResources
from initpipeline.core import lenient
from initpipeline.core.quantity import Quantity

Amounts = dict[str, Quantity]
"""Quantities by resource name."""

_HUGE_PAGES: Final = "hugepages-"
_SHARED: Final = frozenset({"cpu", "memory"})
"""Resources whose Pod-level request defaults to the containers' sum."""

MOST_NAMES: Final = 100
"""Maximum number of resources in status. Clusters have a few, and the size of status is limited."""


@dataclass(frozen=True, slots=True)
class _Resources:
    """The amounts of a v1.ResourceRequirements."""

    requests: Amounts
    limits: Amounts

    @classmethod
    def from_api(cls, raw: Mapping[str, Any] | None) -> "_Resources":
        return cls(_amounts((raw or {}).get("requests")), _amounts((raw or {}).get("limits")))


@dataclass(frozen=True, slots=True)
class _Container:
    resources: _Resources
    is_init: bool
    is_sidecar: bool


def effective_resources(
    spec: Mapping[str, Any], status: Mapping[str, Any] | None = None
) -> EffectiveResources | None:
    """Returns the effective requests and limits of a v1.PodSpec with this v1.PodStatus.

    The spec can be that of a template without a Pod: the API server's defaults are applied first.
    Changes by admission are not known for a template: the defaults of a LimitRange, the overhead of
    a RuntimeClass, or containers that a webhook adds.

    None: the Pod requests nothing, an amount is not a quantity, or there are more than MOST_NAMES
    resources.
    """
    try:
        total = _total(spec, status or {})
    except (AttributeError, TypeError, ValueError):  # The API server would refuse such a Pod.
        return None
    if not total.requests and not total.limits:
        return None
    if len(total.requests) > MOST_NAMES or len(total.limits) > MOST_NAMES:
        return None
    return EffectiveResources(
        requests=_written(total.requests) or None, limits=_written(total.limits) or None
    )


def fields_of_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a v1.PodStatus on which the effective resources depend."""
    fields = {
        field: status[field] for field in ("resources", "allocatedResources") if field in status
    }
    if _resize_is_infeasible(status):
        fields["conditions"] = [{"type": "PodResizePending", "reason": "Infeasible"}]
    for key in ("initContainerStatuses", "containerStatuses"):
        fields[key] = [
            {field: one.get(field) for field in ("name", "resources", "allocatedResources")}
            for one in lenient.mappings(status.get(key))
            if one.get("resources") is not None
        ]
    return fields


def pod_level_defaults(spec: Mapping[str, Any]) -> tuple[Amounts, Amounts]:
    """Returns the requests and limits that the API server sets by default in the Pod-level
    resources, if the Pod has Pod-level resources (KEP-2837). It sets requests only if there are
    limits, and limits only for huge pages without a Pod-level request.

    Raises ValueError if an amount is not a quantity.
    """
    desired = _Resources.from_api(spec.get("resources"))
    containers = _containers(spec, {})
    requests = _aggregate(containers, lambda resources: resources.requests)
    limits = {
        name: limit
        for name, limit in _aggregate(containers, lambda resources: resources.limits).items()
        if name.startswith(_HUGE_PAGES) and (name in desired.limits or name not in desired.requests)
    }
    limited = limits | desired.limits
    if not limited:
        return {}, {}
    shared = {name: request for name, request in requests.items() if name in _SHARED}
    return limited | shared, limits


def _total(spec: Mapping[str, Any], status: Mapping[str, Any]) -> _Resources:
    containers = _containers(spec, status)
    requests = _aggregate(containers, lambda resources: resources.requests)
    limits = _aggregate(containers, lambda resources: resources.limits)
    whole = _pod_level(spec, status, requests)
    overhead = _amounts(spec.get("overhead"))
    return _Resources(
        _sum(requests | whole.requests, overhead),
        _with_overhead(limits | whole.limits, overhead),
    )


def _aggregate(containers: list[_Container], of: Callable[[_Resources], Amounts]) -> Amounts:
    """Returns the largest amounts that the containers need at the same time.

    The sidecars before an init container run beside it. They are added only for the resources that
    the init container itself requests: for any other resource, the sum of sidecars and app
    containers is at least as large. Sums are updated in place, because a copy per container would
    take quadratic time.
    """
    apps, sidecars, most = Amounts(), Amounts(), Amounts()
    for container in containers:
        amounts = of(container.resources)
        if not container.is_init:
            _add_to(apps, amounts)
        elif container.is_sidecar:
            _add_to(sidecars, amounts)
        else:
            beside = {name: sidecars[name] for name in amounts if name in sidecars}
            _raise_to(most, _sum(amounts, beside))
    return _larger(_sum(apps, sidecars), most)


def _containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> list[_Container]:
    statuses = {
        one.get("name"): one
        for key in ("containerStatuses", "initContainerStatuses")
        for one in status.get(key) or ()
    }
    infeasible = _resize_is_infeasible(status)

    def read(raw: Mapping[str, Any], is_init: bool) -> _Container:
        is_sidecar = is_init and raw.get("restartPolicy") == "Always"
        desired = _Resources.from_api(raw.get("resources"))
        desired = _Resources(desired.limits | desired.requests, desired.limits)
        # Only app containers and sidecars can be resized (KEP-1287).
        reported = statuses.get(raw.get("name")) if is_sidecar or not is_init else None
        return _Container(_in_force(desired, reported, infeasible), is_init, is_sidecar)

    inits, apps = spec.get("initContainers") or (), spec.get("containers") or ()
    return [*(read(raw, True) for raw in inits), *(read(raw, False) for raw in apps)]


def _in_force(
    desired: _Resources, status: Mapping[str, Any] | None, infeasible: bool
) -> _Resources:
    """Returns the amounts that count for a container or Pod with this status: the desired ones of
    the spec, if the kubelet does not report the actual and the allocated ones."""
    if not status or status.get("resources") is None:
        return desired
    actual = _Resources.from_api(status["resources"])
    allocated = _amounts(status.get("allocatedResources"))
    if infeasible:
        return _Resources(_larger(actual.requests, allocated), actual.limits)
    return _Resources(
        _larger(_larger(desired.requests, actual.requests), allocated),
        _larger(desired.limits, actual.limits),
    )


def _resize_is_infeasible(status: Mapping[str, Any]) -> bool:
    """Returns whether the kubelet has refused the resize. If so, the requested amounts do not
    count."""
    return any(
        condition.get("type") == "PodResizePending" and condition.get("reason") == "Infeasible"
        for condition in lenient.mappings(status.get("conditions"))
    )


def _pod_level(
    spec: Mapping[str, Any], status: Mapping[str, Any], aggregate: Amounts
) -> _Resources:
    """Returns the Pod-level requests and limits (KEP-2837).

    A missing Pod-level request defaults to the sum of the containers' requests. If no container
    requests the resource, it defaults to the Pod-level limit. For huge pages it is always the
    limit, because they cannot be overcommitted.
    """
    desired = _Resources.from_api(spec.get("resources"))
    defaults = {
        name: limit
        for name, limit in desired.limits.items()
        if name not in aggregate or name.startswith(_HUGE_PAGES)
    }
    desired = _Resources(defaults | desired.requests, desired.limits)
    counted = _in_force(desired, status, _resize_is_infeasible(status))
    return _Resources(
        {name: counted.requests.get(name, wanted) for name, wanted in desired.requests.items()},
        {name: counted.limits.get(name, wanted) for name, wanted in desired.limits.items()},
    )


def _with_overhead(limits: Amounts, overhead: Amounts) -> Amounts:
    """Returns the limits plus the overhead. A resource without a limit gets none. A limit of zero
    counts as no limit."""
    limited = {name for name, limit in limits.items() if limit.milli}
    return _sum(limits, {name: amount for name, amount in overhead.items() if name in limited})


def _amounts(raw: Mapping[str, Any] | None) -> Amounts:
    return {name: Quantity.parse(str(amount)) for name, amount in (raw or {}).items()}


def _sum(amounts: Amounts, more: Amounts) -> Amounts:
    total = dict(amounts)
    _add_to(total, more)
    return total


def _add_to(amounts: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        amounts[name] = amounts[name] + amount if name in amounts else amount


def _larger(amounts: Amounts, others: Amounts) -> Amounts:
    """Returns the larger amount of each resource. If both are equal, returns the first one."""
    larger = dict(amounts)
    _raise_to(larger, others)
    return larger


def _raise_to(amounts: Amounts, others: Amounts) -> None:
    for name, other in others.items():
        if name not in amounts or other.milli > amounts[name].milli:
            amounts[name] = other


def _written(amounts: Amounts) -> dict[str, str]:
    return {name: str(amounts[name]) for name in sorted(amounts)}
