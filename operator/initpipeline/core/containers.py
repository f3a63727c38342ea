"""The containers of a Pod or of a template, read from a v1.PodSpec: sidecars, restart policies and
rules, resources."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from initpipeline.api.models import EffectiveResources
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.core import lenient, resources
from initpipeline.core.encoding import decode, encode

RESTART_ALL_CONTAINERS = "RestartAllContainers"
"""The action of a container's restartPolicyRules that re-runs the Pod in place (KEP-5532)."""

RESTART = "Restart"
"""The action of a container's restartPolicyRules that restarts that container (KEP-5307)."""


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
        data = encode([read_fields(spec), resources.fields_of_status(status or {})])
        return _kept_spec(data) if len(data) <= _LARGEST_KEPT else _pod_spec(data)


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
