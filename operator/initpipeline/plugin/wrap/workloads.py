"""Conversion of one workload to an InitPipeline, with notes on what differs afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core import lenient
from initpipeline.plugin.wrap import exported, fields
from initpipeline.plugin.wrap.exported import was_read_back
from initpipeline.plugin.wrap.fields import OBJECT_ANNOTATIONS
from initpipeline.plugin.wrap.rules import (
    CONVERSION_RULES,
    PIPELINE,
    CannotWrapError,
    ConvertedSpec,
    comma_separated,
)

_GROUPS: Final = {
    "Pod": {""},
    "Deployment": {"apps", "extensions"},
    "DaemonSet": {"apps", "extensions"},
    "StatefulSet": {"apps"},
    "Job": {"batch"},
    "CronJob": {"batch"},
}

KINDS: Final = tuple(_GROUPS)
"""The kinds that can be wrapped."""

_APP_CONTAINER_FIELDS: Final = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
"""Fields of a container that the API server refuses in an init container."""

_SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"


@dataclass(frozen=True, slots=True)
class WrapOptions:
    """The options of ``wrap``."""

    name: str | None = None
    """The InitPipeline's name. None: the name of the workload."""
    init_container: str | None = None
    """The app container that becomes the last init container. None: no container does."""
    namespace: str | None = None
    """The namespace for commands in notes. A namespace in the manifest takes precedence."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A converted workload."""

    pipeline: Raw
    """The InitPipeline."""
    claims: tuple[Raw, ...] = ()
    """PersistentVolumeClaims that the pipeline's Pod uses."""
    notes: tuple[str, ...] = ()
    """What behaves differently afterwards, and what the user has to do."""


def is_workload(manifest: Mapping[str, Any]) -> bool:
    """Returns whether the object is of one of KINDS, in the API group of that kind."""
    group, slash, _ = str(manifest.get("apiVersion", "")).rpartition("/")
    return (group if slash else "") in _GROUPS.get(manifest["kind"], set())


def wrap(manifest: Mapping[str, Any], options: WrapOptions | None = None) -> Wrapped:
    """Returns the InitPipeline that replaces a workload, for which `is_workload` is true.

    Raises CannotWrapError if no InitPipeline has the same effect.
    """
    options = options or WrapOptions()
    title = title_of(manifest)
    metadata, spec = _mapping(manifest, "metadata"), _mapping(manifest, "spec")
    kind = manifest["kind"]
    identity = _identity(metadata, options.name, title)
    owner_notes = _owner_notes(metadata, title)
    converted = CONVERSION_RULES[kind](metadata, spec)
    template = _template(converted.template, manifest, title)
    template, init_container_notes = _with_init_container(template, options.init_container, title)
    _check_steps(template, title)
    kept = {
        "namespace": metadata.get("namespace"),
        "labels": metadata.get("labels"),
        "annotations": _annotations(kind, metadata),
    }
    pipeline = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {**identity, **{key: value for key, value in kept.items() if value}},
        "spec": {**converted.policies, "template": template},
    }
    notes = (
        *owner_notes,
        *(fields.spec_notes(kind, spec) if kind != "Pod" else ()),
        *fields.metadata_notes(
            {k: v for k, v in metadata.items() if k != "ownerReferences" or not owner_notes}
        ),
        *fields.key_notes(kind, metadata),
        *_completion_notes(manifest),
        *converted.notes,
        *init_container_notes,
        *_restart_notes(template),
        *(_scale_down_notes(template) if kind != "Pod" else ()),
    )
    place = {"namespace": options.namespace, **metadata}
    all_notes = (*notes, *_removal_notes(place, converted, template, title))
    [name] = identity.values()
    return Wrapped(
        pipeline, converted.claims, tuple(note.replace(PIPELINE, name) for note in all_notes)
    )


def _owner_notes(metadata: Raw, title: str) -> tuple[str, ...]:
    """Returns a note on the controller that owns the workload. Raises CannotWrapError if that
    controller would create the workload again."""
    owners = metadata.get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    if owner is None:
        return ()
    creation = f'{title} was created by {owner.get("kind")} "{owner.get("name")}"'
    if title.startswith("Pod ") or owner.get("kind") in KINDS:
        raise CannotWrapError(
            f"{creation}, which would create another: wrap the top-level owner, such as the "
            "Deployment"
        )
    return (f"{creation}, which may restore it or revert changes to it: change the owner first",)


def _completion_notes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a note if the workload's status, as read from a cluster, reports its end."""
    status = manifest.get("status") or {}
    conditions = status.get("conditions") or ()
    has_ended = status.get("phase") in ("Succeeded", "Failed") or any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        for one in conditions
    )
    return ("the workload has ended: applying the pipeline runs it again",) if has_ended else ()


def _annotations(kind: str, metadata: Raw) -> Raw:
    """Returns the annotations of the InitPipeline. Annotations of a Pod belong to the template,
    unless a tool reads them on the object that was applied."""
    own = exported.own_annotations(metadata.get("annotations"))
    return (
        own if kind != "Pod" else {k: v for k, v in own.items() if OBJECT_ANNOTATIONS.fullmatch(k)}
    )


def name_of(manifest: Mapping[str, Any]) -> str:
    """Returns the name of the object, or its generateName. Empty: it has neither."""
    metadata = lenient.mapping(manifest.get("metadata"))
    return str(metadata.get("name") or metadata.get("generateName") or "")


def title_of(manifest: Mapping[str, Any]) -> str:
    """Returns the kind and the name of the object, for messages."""
    return f'{manifest["kind"]} "{name_of(manifest)}"'


def _mapping(manifest: Mapping[str, Any], key: str) -> Raw:
    value = manifest.get(key)
    if not isinstance(value, dict):
        raise CannotWrapError(f"{title_of(manifest)} has no {key}")
    return value


def _identity(metadata: Raw, new_name: str | None, title: str) -> Raw:
    """Returns the pipeline's name, or the generateName from which the API server generates one."""
    if not new_name and not metadata.get("name") and metadata.get("generateName"):
        return {"generateName": metadata["generateName"]}
    name = new_name or metadata.get("name")
    if not name:
        raise CannotWrapError(f"{title} has no name: give one with --name")
    if len(name) > names.MAX_NAME_LENGTH:
        raise CannotWrapError(
            f"{title}: the name of an InitPipeline has at most {names.MAX_NAME_LENGTH} characters, "
            f"not {len(name)}: give another with --name"
        )
    return {"name": name}


def _template(template: Raw, manifest: Mapping[str, Any], title: str) -> Raw:
    spec = template.get("spec")
    if not isinstance(spec, dict):
        raise CannotWrapError(f"{title} has no Pod template with a spec")
    return exported.template(template) if was_read_back(manifest) else template


def _check_steps(template: Raw, title: str) -> None:
    spec = template["spec"]
    inits = spec.get("initContainers") or ()
    if any(container.get("restartPolicy") != "Always" for container in inits):
        return
    lacking = "only sidecars among its init containers" if inits else "no init containers"
    apps = [container.get("name") for container in spec.get("containers") or ()]
    remedy = "add init containers to its template"
    if len(apps) > 1:
        remedy += f", or turn a container into one: --init-container ({comma_separated(apps)})"
    raise CannotWrapError(f"{title} has {lacking}, so there is no step to run: {remedy}")


def _with_init_container(
    template: Raw, name: str | None, title: str
) -> tuple[Raw, tuple[str, ...]]:
    """Returns the template with the named app container as its last init container, and a note.
    Raises CannotWrapError if the container cannot be moved."""
    if name is None:
        return template, ()
    spec = template["spec"]
    apps = spec.get("containers") or []
    chosen = next((container for container in apps if container.get("name") == name), None)
    if chosen is None or len(apps) == 1:
        reason = "no other container" if chosen else f'no container "{name}"'
        raise CannotWrapError(f'{title} has {reason}, so --init-container cannot move "{name}"')
    removed = [field for field in _APP_CONTAINER_FIELDS if field in chosen]
    step = {key: value for key, value in chosen.items() if key not in removed}
    inits = [*(spec.get("initContainers") or ()), step]
    rest = [container for container in apps if container is not chosen]
    without = f", without its {comma_separated(removed)}" if removed else ""
    note = f'container "{name}" becomes the last init container{without}: it must exit by itself'
    return {**template, "spec": {**spec, "initContainers": inits, "containers": rest}}, (note,)


def _restart_notes(template: Raw) -> tuple[str, ...]:
    if template["spec"].get("restartPolicy") == "Never":
        return ()
    return (
        "if an app container restarts, all init containers run again in a new Pod; with "
        "spec.rerunPolicy: OnPodLoss, the kubelet restarts only that container, as before",
    )


def _scale_down_notes(template: Raw) -> tuple[str, ...]:
    """Returns a note on nodes that cluster-autoscaler no longer removes, unless the template has
    the annotation that decides about it."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    if _SAFE_TO_EVICT in annotations:
        return ()
    return (
        "cluster-autoscaler does not remove a node with a Pod of an unknown controller, unless the "
        f'template has the annotation {_SAFE_TO_EVICT}: "true"',
    )


def _removal_notes(
    metadata: Raw, converted: ConvertedSpec, template: Raw, title: str
) -> tuple[str, ...]:
    """Returns a note with the command that ends the old Pods, and when to run it."""
    if not converted.stop_command or not metadata.get("name"):
        return ()
    namespace = metadata.get("namespace")
    command = f"kubectl {converted.stop_command}" + (f" -n {namespace}" if namespace else "")
    if converted.exclusive or _uses_exclusive_resources(template["spec"]):
        when = "before you apply this"
    else:
        when = f'once InitPipeline "{PIPELINE}" is Ready'
    return (f"if {title} exists in the cluster, it keeps running; stop it {when}: {command}",)


def _uses_exclusive_resources(spec: Raw) -> bool:
    """Returns whether two such Pods may conflict: they use a claim, which may be limited to one
    node, or a port of the node."""
    claims = any("persistentVolumeClaim" in volume for volume in spec.get("volumes") or ())
    ports = (port for c in spec.get("containers") or () for port in c.get("ports") or ())
    return claims or bool(spec.get("hostNetwork")) or any(port.get("hostPort") for port in ports)
