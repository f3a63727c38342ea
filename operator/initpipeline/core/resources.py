"""What a Pod counts as for the scheduler and for quota, as the Kubernetes API defines it.

Plain init containers run one after the other, so the largest of them counts and not their sum; but
a sidecar runs beside all that come after it (KEP-753). Resources of the Pod as a whole take the
place of what its containers add up to (KEP-2837). While they are resized in place, the larger of
what is asked for and what is given counts (KEP-1287).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api.models import EffectiveResources
from initpipeline.core.quantity import Quantity

Raw = Mapping[str, Any]
Amounts = dict[str, Quantity]
"""By name of the resource."""

_HUGE_PAGES: Final = "hugepages-"
_SHARED: Final = frozenset({"cpu", "memory"})
"""Resources that containers without an own request take from the Pod's."""

MOST_NAMES: Final = 100
"""The most resources that status shows. A cluster has a few, and the size of status is limited."""


@dataclass(frozen=True, slots=True)
class _Resources:
    """The amounts of a v1.ResourceRequirements."""

    requests: Amounts
    limits: Amounts

    @classmethod
    def from_api(cls, raw: Raw | None) -> "_Resources":
        return cls(_amounts((raw or {}).get("requests")), _amounts((raw or {}).get("limits")))


@dataclass(frozen=True, slots=True)
class _Container:
    resources: _Resources
    is_init: bool
    is_sidecar: bool


def effective_resources(spec: Raw, status: Raw | None = None) -> EffectiveResources | None:
    """The effective requests and limits of a v1.PodSpec, with its v1.PodStatus where there is one.

    The spec can be a template's: the API server's own defaults are applied, which change nothing
    where it has applied them. What admission may add to a template is not known here: defaults of
    a LimitRange, the overhead of a RuntimeClass, a webhook's containers.

    None: the Pod asks for nothing, for something that is no quantity, which the API server will
    refuse, or for more than MOST_NAMES resources, which no cluster has.
    """
    try:
        total = _total(spec, status or {})
    except ValueError:
        return None
    if not total.requests and not total.limits:
        return None
    if len(total.requests) > MOST_NAMES or len(total.limits) > MOST_NAMES:
        return None
    return EffectiveResources(
        requests=_written(total.requests) or None, limits=_written(total.limits) or None
    )


def pod_level_defaults(spec: Raw) -> tuple[Amounts, Amounts]:
    """Returns the Pod-level requests and limits that the API server sets by default, if the Pod has
    other Pod-level resources (KEP-2837). Raises ValueError for a value that is no quantity."""
    asked = _Resources.from_api(spec.get("resources"))
    if not asked.requests and not asked.limits:
        return {}, {}
    containers = _containers(spec, {})
    requests = _aggregate(containers, lambda resources: resources.requests)
    limits = {
        name: limit
        for name, limit in _aggregate(containers, lambda resources: resources.limits).items()
        if name.startswith(_HUGE_PAGES)
        and (name not in asked.requests or asked.limits.get(name, limit).milli == limit.milli)
        and (name not in asked.requests or name in asked.limits)
    }
    limited = limits | asked.limits
    if not limited:
        return {}, {}
    shared = {name: request for name, request in requests.items() if name in _SHARED}
    return limited | shared, limits


def _total(spec: Raw, status: Raw) -> _Resources:
    containers = _containers(spec, status)
    requests = _aggregate(containers, lambda resources: resources.requests)
    limits = _aggregate(containers, lambda resources: resources.limits)
    whole = _of_the_pod(spec, status, requests)
    overhead = _amounts(spec.get("overhead"))
    return _Resources(
        _sum(requests | whole.requests, overhead),
        _with_overhead(limits | whole.limits, overhead),
    )


def _aggregate(containers: list[_Container], of: Callable[[_Resources], Amounts]) -> Amounts:
    """Returns the most that the containers need at any one time.

    The sidecars before an init container run beside it. They matter only for resources that the
    init container asks for: of all others they need as much beside the app containers. Sums change
    in place, since a copy per container would take quadratic time.
    """
    apps, sidecars, most = Amounts(), Amounts(), Amounts()
    for container in containers:
        amounts = of(container.resources)
        if not container.is_init:
            _add(apps, amounts)
        elif container.is_sidecar:
            _add(sidecars, amounts)
        else:
            beside = {name: sidecars[name] for name in amounts if name in sidecars}
            _raise(most, _sum(amounts, beside))
    return _most(_sum(apps, sidecars), most)


def _containers(spec: Raw, status: Raw) -> list[_Container]:
    statuses = {
        one.get("name"): one
        for key in ("containerStatuses", "initContainerStatuses")
        for one in status.get(key) or ()
    }
    infeasible = _resize_is_infeasible(status)

    def read(raw: Raw, is_init: bool) -> _Container:
        is_sidecar = is_init and raw.get("restartPolicy") == "Always"
        asked = _Resources.from_api(raw.get("resources"))
        asked = _Resources(asked.limits | asked.requests, asked.limits)
        # Only what goes on running can be resized.
        given = statuses.get(raw.get("name")) if is_sidecar or not is_init else None
        return _Container(_in_force(asked, given, infeasible), is_init, is_sidecar)

    inits, apps = spec.get("initContainers") or (), spec.get("containers") or ()
    return [*(read(raw, True) for raw in inits), *(read(raw, False) for raw in apps)]


def _in_force(asked: _Resources, status: Raw | None, infeasible: bool) -> _Resources:
    """What counts, by the status of a container or a Pod that tells what it was given."""
    if not status or status.get("resources") is None:
        return asked
    given = _Resources.from_api(status["resources"])
    allocated = _amounts(status.get("allocatedResources"))
    if infeasible:
        return _Resources(_most(given.requests, allocated), given.limits)
    return _Resources(
        _most(_most(asked.requests, given.requests), allocated), _most(asked.limits, given.limits)
    )


def _resize_is_infeasible(status: Raw) -> bool:
    """Whether what is asked for was refused by the kubelet, so that it counts for nothing."""
    pending = (c for c in status.get("conditions") or () if c.get("type") == "PodResizePending")
    return any(condition.get("reason") == "Infeasible" for condition in pending)


def _of_the_pod(spec: Raw, status: Raw, aggregate: Amounts) -> _Resources:
    """What is set for the Pod as a whole; the API server refuses what cannot be set for it.

    A request that is missing there is what the containers request or, where none does, the limit;
    of huge pages, which cannot be overcommitted, it is the limit.
    """
    asked = _Resources.from_api(spec.get("resources"))
    defaults = {
        name: limit
        for name, limit in asked.limits.items()
        if name not in aggregate or name.startswith(_HUGE_PAGES)
    }
    asked = _Resources(defaults | asked.requests, asked.limits)
    force = _in_force(asked, status, _resize_is_infeasible(status))
    return _Resources(
        {name: force.requests.get(name, wanted) for name, wanted in asked.requests.items()},
        {name: force.limits.get(name, wanted) for name, wanted in asked.limits.items()},
    )


def _with_overhead(limits: Amounts, overhead: Amounts) -> Amounts:
    """Overhead comes on top of a limit, and makes none: zero is as if there were none."""
    limited = {name for name, limit in limits.items() if limit.milli}
    return _sum(limits, {name: amount for name, amount in overhead.items() if name in limited})


def _amounts(raw: Raw | None) -> Amounts:
    return {name: Quantity.parse(str(amount)) for name, amount in (raw or {}).items()}


def _sum(amounts: Amounts, more: Amounts) -> Amounts:
    total = dict(amounts)
    _add(total, more)
    return total


def _add(amounts: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        amounts[name] = amounts[name] + amount if name in amounts else amount


def _most(amounts: Amounts, others: Amounts) -> Amounts:
    """Of each resource the larger amount; of two that are equal, the first's notation."""
    larger = dict(amounts)
    _raise(larger, others)
    return larger


def _raise(amounts: Amounts, others: Amounts) -> None:
    for name, other in others.items():
        if name not in amounts or other.milli > amounts[name].milli:
            amounts[name] = other


def _written(amounts: Amounts) -> dict[str, str]:
    return {name: str(amounts[name]) for name in sorted(amounts)}
