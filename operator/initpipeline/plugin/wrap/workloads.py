"""An InitPipeline of a workload's manifest, and what a person has to know about the converted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api import names
from initpipeline.plugin.wrap import exported, fields
from initpipeline.plugin.wrap.exported import Raw, was_read_back
from initpipeline.plugin.wrap.fields import OBJECT_ANNOTATIONS
from initpipeline.plugin.wrap.rules import (
    CONVERSION_RULES,
    PIPELINE,
    CannotWrapError,
    ConvertedSpec,
    listed,
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

_APP_ONLY: Final = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
"""Fields of a container that an init container must not have."""


_SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"


@dataclass(frozen=True, slots=True)
class WrapOptions:
    """What a person wants to be otherwise than in the manifest."""

    name: str | None = None
    """Of the InitPipeline; None: the workload's."""
    init_container: str | None = None
    """The app container that is to run as the last init container."""
    namespace: str | None = None
    """Where it all is, for the commands that are told, if the manifest does not say."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What a workload becomes."""

    pipeline: Raw
    claims: tuple[Raw, ...] = ()
    """PersistentVolumeClaims that the pipeline's Pod needs."""
    notes: tuple[str, ...] = ()
    """What is otherwise than before, and what there is to do."""


def is_workload(manifest: Mapping[str, Any]) -> bool:
    """Whether it is of one of KINDS."""
    group, slash, _ = str(manifest.get("apiVersion", "")).rpartition("/")
    return (group if slash else "") in _GROUPS.get(manifest["kind"], set())


def wrap(manifest: Mapping[str, Any], options: WrapOptions | None = None) -> Wrapped:
    """The InitPipeline of a workload; `is_workload` holds.

    Raises CannotWrapError where there is none.
    """
    options = options or WrapOptions()
    title = _title(manifest)
    metadata, spec = _mapping(manifest, "metadata"), _mapping(manifest, "spec")
    kind = manifest["kind"]
    identity = _identity(metadata, options.name, title)
    made_by = _made_by(metadata, title)
    converted = CONVERSION_RULES[kind](metadata, spec)
    template = _template(converted.template, manifest, title)
    template, moved = _with_init_container(template, options.init_container, title)
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
        *made_by,
        *(fields.spec_notes(kind, spec) if kind != "Pod" else ()),
        *fields.metadata_notes(
            {k: v for k, v in metadata.items() if k != "ownerReferences" or not made_by}
        ),
        *fields.key_notes(kind, metadata),
        *_ended(manifest),
        *converted.notes,
        *moved,
        *_restarts(template),
        *(_scale_down(template) if kind != "Pod" else ()),
    )
    place = {"namespace": options.namespace, **metadata}
    every = (*notes, *_removal_note(place, converted, template, title))
    [name] = identity.values()
    return Wrapped(
        pipeline, converted.claims, tuple(note.replace(PIPELINE, name) for note in every)
    )


def _made_by(metadata: Raw, title: str) -> tuple[str, ...]:
    """Returns a note on the controller that created it. Raises CannotWrapError if that controller
    is a workload, or creates Pods."""
    owners = metadata.get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    if owner is None:
        return ()
    made = f'{title} was created by {owner.get("kind")} "{owner.get("name")}"'
    if title.startswith("Pod ") or owner.get("kind") in KINDS:
        raise CannotWrapError(
            f"{made}, which would create another: wrap the top-level owner, such as the Deployment"
        )
    return (f"{made}, which may restore it or revert changes to it: change that first",)


def _ended(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a note if the workload has ended, by the status that was read back with it."""
    status = manifest.get("status") or {}
    conditions = status.get("conditions") or ()
    done = status.get("phase") in ("Succeeded", "Failed") or any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        for one in conditions
    )
    return ("it has ended; the pipeline runs it again when it is applied",) if done else ()


def _annotations(kind: str, metadata: Raw) -> Raw:
    """Returns the annotations of the InitPipeline. Those of a Pod go to the template, except those
    about the applied object."""
    own = exported.own_annotations(metadata.get("annotations"))
    return (
        own if kind != "Pod" else {k: v for k, v in own.items() if OBJECT_ANNOTATIONS.fullmatch(k)}
    )


def _title(manifest: Mapping[str, Any]) -> str:
    metadata = manifest.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or ""
    return f'{manifest["kind"]} "{name}"'


def _mapping(manifest: Mapping[str, Any], key: str) -> Raw:
    value = manifest.get(key)
    if not isinstance(value, dict):
        raise CannotWrapError(f"{_title(manifest)} has no {key}")
    return value


def _identity(metadata: Raw, wished: str | None, title: str) -> Raw:
    """The pipeline's name, or what the server makes one of."""
    if not wished and not metadata.get("name") and metadata.get("generateName"):
        return {"generateName": metadata["generateName"]}
    name = wished or metadata.get("name")
    if not name:
        raise CannotWrapError(f"{title} has no name: give one with --name")
    if len(name) > names.MAX_NAME_LENGTH:
        raise CannotWrapError(
            f"{title}: an InitPipeline's name has at most {names.MAX_NAME_LENGTH} characters, not "
            f"{len(name)}: give another with --name"
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
    what = "only sidecars among its init containers" if inits else "no init containers"
    apps = [container.get("name") for container in spec.get("containers") or ()]
    ways = "add init containers to its template"
    if len(apps) > 1:
        ways += f", or make one of its containers the first with --init-container ({listed(apps)})"
    raise CannotWrapError(f"{title} has {what}, so there is no step to run: {ways}")


def _with_init_container(
    template: Raw, name: str | None, title: str
) -> tuple[Raw, tuple[str, ...]]:
    """The template with the app container of that name as the last of the init containers."""
    if name is None:
        return template, ()
    spec = template["spec"]
    apps = spec.get("containers") or []
    chosen = next((container for container in apps if container.get("name") == name), None)
    if chosen is None or len(apps) == 1:
        why = "no other container" if chosen else f'no container "{name}"'
        raise CannotWrapError(f"{title} has {why}, so --init-container cannot converted it")
    gone = [field for field in _APP_ONLY if field in chosen]
    step = {key: value for key, value in chosen.items() if key not in gone}
    inits = [*(spec.get("initContainers") or ()), step]
    rest = [container for container in apps if container is not chosen]
    without = f", without its {listed(gone)}" if gone else ""
    note = f'container "{name}" is the last init container{without}: it has to end by itself'
    return {**template, "spec": {**spec, "initContainers": inits, "containers": rest}}, (note,)


def _restarts(template: Raw) -> tuple[str, ...]:
    if template["spec"].get("restartPolicy") == "Never":
        return ()
    return (
        "when an app container restarts, all init containers run again, in a new Pod; "
        "spec.rerunPolicy: OnPodLoss leaves such restarts to the kubelet, as before",
    )


def _scale_down(template: Raw) -> tuple[str, ...]:
    """Returns a note on nodes that cluster-autoscaler no longer removes, unless the template sets
    the annotation by which it decides."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    if _SAFE_TO_EVICT in annotations:
        return ()
    return (
        "cluster-autoscaler keeps the node of a Pod whose controller it does not know, unless the "
        f'template has the annotation {_SAFE_TO_EVICT}: "true"',
    )


def _removal_note(
    metadata: Raw, converted: ConvertedSpec, template: Raw, title: str
) -> tuple[str, ...]:
    """How to end the old Pods, which know nothing of the new one."""
    if not converted.stop_command or not metadata.get("name"):
        return ()
    namespace = metadata.get("namespace")
    command = f"kubectl {converted.stop_command}" + (f" -n {namespace}" if namespace else "")
    if converted.exclusive or _holds_something(template["spec"]):
        when = "before you apply this"
    else:
        when = f'once InitPipeline "{PIPELINE}" is Ready'
    return (f"if {title} is in the cluster, it runs on beside; end it {when}: {command}",)


def _holds_something(spec: Raw) -> bool:
    """Whether two such Pods may be in each other's way: a claim that one node at a time can have,
    a port of the node."""
    claims = any("persistentVolumeClaim" in volume for volume in spec.get("volumes") or ())
    ports = (port for c in spec.get("containers") or () for port in c.get("ports") or ())
    return claims or bool(spec.get("hostNetwork")) or any(port.get("hostPort") for port in ports)
