"""Conversion rules: what each workload kind contributes to the InitPipeline that replaces it.

The Pod template is carried over verbatim. An InitPipeline runs one Pod, so replicas, update
strategies and schedules have no counterpart. A note names each of them that is not carried over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from initpipeline.api.raw import Raw
from initpipeline.plugin.wrap import exported, fields
from initpipeline.plugin.wrap.exported import was_read_back
from initpipeline.plugin.wrap.fields import OBJECT_ANNOTATIONS

PIPELINE: Final = "<pipeline>"
"""Placeholder for the InitPipeline's name in a note."""

_SUSPENDED: Final = (
    "spec.replicas is 0, so the InitPipeline is suspended; to start it: "
    f"kubectl initpipeline resume {PIPELINE}"
)

_IMPLICIT_TOLERATIONS: Final = (
    "not-ready, unreachable, unschedulable, disk, memory and PID pressure"
)
_JOB_BACKOFF_LIMIT: Final = 6
"""The API server's default of a Job's backoffLimit."""


class CannotWrapError(ValueError):
    """No InitPipeline has the same effect as this workload. The message gives the reason and what
    the user can do."""


@dataclass(frozen=True, slots=True)
class ConvertedSpec:
    """The part of a conversion that depends on the workload's kind."""

    template: Raw
    """The Pod template."""
    stop_command: str
    """The command, without "kubectl", that ends the old Pods, if possible in a way that can be
    undone. Empty if no Pods run."""
    policies: Mapping[str, Any]
    """Fields of the InitPipeline's spec beside the template."""
    claims: tuple[Raw, ...] = ()
    """PersistentVolumeClaims that the Pod uses."""
    notes: tuple[str, ...] = ()
    """What behaves differently afterwards, and what the user has to do."""
    exclusive: bool = False
    """True if the old Pods and the pipeline's Pod must not run at the same time, or would do the
    same work twice."""


def _pod(metadata: Raw, spec: Raw) -> ConvertedSpec:
    notes: tuple[str, ...] = ()
    if was_read_back({"metadata": metadata}):
        removed: Raw = {key: spec[key] for key in exported.SERVER_SET_POD_FIELDS if key in spec}
        notes = tuple(fields.spec_notes("Pod", removed))
        spec = exported.pod_spec(spec)
    annotations = exported.own_annotations(metadata.get("annotations"))
    kept = {
        "labels": metadata.get("labels"),
        "annotations": {
            k: v for k, v in annotations.items() if not OBJECT_ANNOTATIONS.fullmatch(k)
        },
    }
    template = {"metadata": {k: v for k, v in kept.items() if v}, "spec": spec}
    return ConvertedSpec(
        template=template if template["metadata"] else {"spec": spec},
        stop_command=f"delete pod {metadata['name']}" if metadata.get("name") else "",
        policies={},
        notes=notes,
        exclusive=True,
    )


def _deployment(metadata: Raw, spec: Raw) -> ConvertedSpec:
    name, strategy = metadata.get("name"), (spec.get("strategy") or {}).get("type")
    policies, notes = _replicas(spec)
    return ConvertedSpec(
        template=spec.get("template") or {},
        stop_command=f"scale deployment {name} --replicas=0" if not policies else "",
        policies=policies,
        notes=(*notes, *_updates(spec, "strategy"), _outside_references("Deployment")),
        exclusive=strategy == "Recreate",
    )


def _updates(spec: Raw, field: str) -> tuple[str, ...]:
    """Returns a note on how a template change takes effect, if that differs from the workload."""
    strategy = spec.get(field) or {}
    if strategy.get("type") == "Recreate":
        return ()
    note = "if the template changes, the operator replaces the Pod: for a while no Pod is Ready"
    if strategy.get("type") == "OnDelete":
        note += (
            f"; spec.{field} is not carried over: the operator does not wait for a user to delete "
            "the Pod"
        )
    elif (strategy.get("rollingUpdate") or {}).get("partition"):
        note += (
            f"; spec.{field}.rollingUpdate.partition is not carried over: a change always applies"
        )
    return (note,)


def _outside_references(kind: str) -> str:
    """Returns a note on what may refer to the workload outside of the file."""
    return (
        f"check what else refers to the {kind}, such as kubectl rollout and scale, autoscalers "
        "and alerts; a PodDisruptionBudget that selects the Pod needs an integer minAvailable"
    )


def _replicas(spec: Raw) -> tuple[Raw, tuple[str, ...]]:
    """Returns the policies and the notes that follow from spec.replicas."""
    replicas = 1 if spec.get("replicas") is None else spec["replicas"]
    if replicas == 0:
        return {"suspend": True}, (_SUSPENDED,)
    return {}, (f"the InitPipeline runs one Pod instead of {replicas}",) if replicas != 1 else ()


def _daemon_set(metadata: Raw, spec: Raw) -> ConvertedSpec:
    return ConvertedSpec(
        template=spec.get("template") or {},
        stop_command=f"delete daemonset {metadata.get('name')}",
        policies={},
        notes=(
            "the InitPipeline runs one Pod on one node, instead of one on each node: choose the "
            "node with spec.template.spec.nodeSelector",
            "the Pod has only the tolerations of its template; the DaemonSet controller also adds "
            f"those for {_IMPLICIT_TOLERATIONS}",
            *_updates(spec, "updateStrategy"),
            _outside_references("DaemonSet"),
        ),
    )


def _stateful_set(metadata: Raw, spec: Raw) -> ConvertedSpec:
    """Converts the Pod of the first ordinal. It keeps its claims, with their data, and its DNS
    name."""
    name = metadata.get("name")
    if not name:
        raise CannotWrapError(
            "the StatefulSet has no metadata.name, so the names of its claims are unknown: add it "
            "to the manifest"
        )
    template = spec.get("template") or {}
    policies, notes = _replicas(spec)
    ordinal = (spec.get("ordinals") or {}).get("start") or 0
    pod_name = f"{name}-{ordinal}"
    claim_templates = spec.get("volumeClaimTemplates") or ()
    claims = tuple(_claim(claim, pod_name, spec) for claim in claim_templates)
    stop_command = f"scale statefulset {name} --replicas=0" if not policies else ""
    return ConvertedSpec(
        template=_template_of_pod(template, pod_name, spec),
        stop_command=stop_command,
        policies=policies,
        claims=claims,
        notes=(
            *notes,
            *_updates(spec, "updateStrategy"),
            *_stateful_set_notes(metadata, spec, pod_name, claims),
            _outside_references("StatefulSet"),
        ),
        exclusive=True,
    )


def _template_of_pod(template: Raw, pod_name: str, spec: Raw) -> Raw:
    """Returns the template as the StatefulSet controller completes it for one Pod."""
    if not isinstance(template.get("spec"), dict):
        return template
    pod = dict(template["spec"])
    claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ()}
    volumes = [v for v in pod.get("volumes") or () if v.get("name") not in claimed]
    volumes += [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{pod_name}"}}
        for name in sorted(claimed)
    ]
    address = {"hostname": pod_name}
    if spec.get("serviceName"):
        address["subdomain"] = spec["serviceName"]
    return {**template, "spec": {**pod, **address, **({"volumes": volumes} if volumes else {})}}


def _claim(claim: Raw, pod_name: str, spec: Raw) -> Raw:
    """Returns the claim of one Pod, as the StatefulSet controller creates it."""
    metadata = claim["metadata"]
    labels = {
        **(metadata.get("labels") or {}),
        **((spec.get("selector") or {}).get("matchLabels") or {}),
    }
    kept = {"labels": labels, "annotations": metadata.get("annotations")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"{metadata['name']}-{pod_name}",
            **{key: value for key, value in kept.items() if value},
        },
        "spec": claim.get("spec") or {},
    }


def _stateful_set_notes(
    metadata: Raw, spec: Raw, pod_name: str, claims: tuple[Raw, ...]
) -> tuple[str, ...]:
    """Returns notes on the identity and the claims of the Pod."""
    notes = [
        f'the Pod has the hostname "{pod_name}", but not the labels of a StatefulSet\'s Pod '
        "(statefulset.kubernetes.io/pod-name, apps.kubernetes.io/pod-index)"
    ]
    if claims:
        claim_names = comma_separated([claim["metadata"]["name"] for claim in claims])
        notes.append(
            f"the Pod uses the claims of {pod_name} ({claim_names}), so their data is kept; the "
            "output contains these claims: kubectl apply creates those that do not exist, kubectl "
            "delete -f deletes all of them"
        )
        if (spec.get("replicas") or 0) > 1:
            notes.append("the claims of the other replicas remain, and no Pod uses them")
    policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    if "Delete" in policy.values():
        retain = '{"whenDeleted":"Retain","whenScaled":"Retain"}'
        keep = f'{{"spec":{{"persistentVolumeClaimRetentionPolicy":{retain}}}}}'
        place = f" -n {metadata['namespace']}" if metadata.get("namespace") else ""
        notes.append(
            "the StatefulSet controller deletes claims when the StatefulSet is deleted or scaled "
            "down (persistentVolumeClaimRetentionPolicy); to keep them, first run: "
            f"kubectl patch statefulset {metadata['name']} --type=merge -p '{keep}'{place}"
        )
    return tuple(notes)


def _job(metadata: Raw, spec: Raw) -> ConvertedSpec:
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    if (completions or 1) > 1 or (completions != 1 and (parallelism or 1) > 1):
        raise CannotWrapError(
            f'Job "{metadata.get("name") or metadata.get("generateName")}" runs several Pods '
            "(completions, parallelism), and an InitPipeline runs one: keep the Job"
        )
    template = spec.get("template") or {}
    if not spec.get("manualSelector"):
        template = exported.job_template(template)
    template, notes = _with_deadline(template, spec.get("activeDeadlineSeconds"))
    idle = bool(spec.get("suspend")) or parallelism == 0
    limit = spec.get("backoffLimit")
    policies = {
        "suspend": True if idle else None,
        "backoffLimit": _JOB_BACKOFF_LIMIT if limit is None else limit,
        "ttlSecondsAfterFinished": spec.get("ttlSecondsAfterFinished"),
    }
    if (template.get("spec") or {}).get("restartPolicy") == "OnFailure":
        notes += (
            "container restarts count against the backoffLimit of a Job, but not of an "
            "InitPipeline: limit them with spec.initPolicies[].maxRestarts",
        )
    notes += (
        "check what waits for the Job, such as kubectl wait, a CI job or a hook; to wait until all "
        f"containers of the InitPipeline have succeeded: kubectl wait ipl/{PIPELINE} "
        """--for=jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'=PodSucceeded""",
    )
    return ConvertedSpec(
        template=template,
        stop_command=f"delete job {metadata['name']}" if metadata.get("name") and not idle else "",
        policies={key: value for key, value in policies.items() if value is not None},
        notes=notes,
        exclusive=True,
    )


def _with_deadline(template: Raw, seconds: int | None) -> tuple[Raw, tuple[str, ...]]:
    """Returns the template with this activeDeadlineSeconds, unless its own is shorter, and a
    note."""
    spec = template.get("spec")
    if seconds is None or not isinstance(spec, dict):
        return template, ()
    own = spec.get("activeDeadlineSeconds")
    least = seconds if own is None else min(own, seconds)
    note = (
        f"activeDeadlineSeconds ({least}) is set on the Pod: it limits each attempt, not all "
        "attempts together"
    )
    return {**template, "spec": {**spec, "activeDeadlineSeconds": least}}, (note,)


def _cron_job(metadata: Raw, spec: Raw) -> ConvertedSpec:
    job_template = spec.get("jobTemplate") or {}
    job = job_template.get("spec") or {}
    inner = _job(metadata, job)
    policies = {k: v for k, v in inner.policies.items() if k != "ttlSecondsAfterFinished"}
    notes: tuple[str, ...] = (
        f'the schedule "{spec.get("schedule")}" is not carried over: the pipeline runs once when '
        f"it is applied; to run it again: kubectl initpipeline rerun {PIPELINE}",
    )
    if spec.get("suspend"):
        policies["suspend"] = True
        notes = (
            f'the schedule "{spec.get("schedule")}" is not carried over; the CronJob was '
            "suspended, so the pipeline is suspended; to start it: kubectl initpipeline resume "
            f"{PIPELINE}",
        )
    job_metadata = [key for key, value in (job_template.get("metadata") or {}).items() if value]
    if job_metadata:
        keys = comma_separated(job_metadata)
        notes += (f"spec.jobTemplate.metadata is not carried over: {keys} of the Jobs",)
    notes += (*fields.spec_notes("Job", job, "spec.jobTemplate.spec"), *inner.notes)
    if "ttlSecondsAfterFinished" in inner.policies:
        notes += ("ttlSecondsAfterFinished is not carried over: it would delete the pipeline",)
    suspend = """-p '{"spec":{"suspend":true}}'"""
    return replace(
        inner,
        stop_command=""
        if spec.get("suspend")
        else f"patch cronjob {metadata.get('name')} {suspend}",
        policies=policies,
        notes=notes,
    )


ConversionRule = Callable[[Raw, Raw], ConvertedSpec]
"""Converts the metadata and the spec of a workload. Raises CannotWrapError."""

CONVERSION_RULES: Final[Mapping[str, ConversionRule]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
}
"""The rule for each kind."""


def comma_separated(values: list[Any]) -> str:
    """Returns the values as an enumeration in a message."""
    return ", ".join(str(value) for value in values)
