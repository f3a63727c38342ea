"""What each kind of workload has to say for itself, when its Pod becomes that of an InitPipeline.

The template goes over verbatim. What a workload says about many Pods, about rolling from one to the
next or about the time of day has no place in a pipeline of one Pod; none of it is dropped silently.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from initpipeline.plugin.wrap import exported, fields
from initpipeline.plugin.wrap.exported import Raw, was_read_back
from initpipeline.plugin.wrap.fields import OBJECT_ANNOTATIONS

PIPELINE: Final = "<pipeline>"
"""In a note: stands for the InitPipeline's name."""

_NO_POD_YET: Final = (
    f"no Pod ran, so the InitPipeline is suspended: kubectl initpipeline resume {PIPELINE}"
)

_IMPLICIT_TOLERATIONS: Final = (
    "not-ready, unreachable, unschedulable, disk, memory and PID pressure"
)
_JOBS_BACKOFF_LIMIT: Final = 6
"""What the API server gives a Job that does not say."""


class CannotWrapError(ValueError):
    """There is no InitPipeline that would do what this workload does. The message is for a person:
    why, and what to do."""


@dataclass(frozen=True, slots=True)
class ConvertedSpec:
    """What one kind of workload has to say for itself."""

    template: Raw
    stop_command: str
    """The command, without "kubectl", that ends the old Pods and can be taken back if possible."""
    policies: Mapping[str, Any]
    claims: tuple[Raw, ...] = ()
    notes: tuple[str, ...] = ()
    exclusive: bool = False
    """Its Pod and the pipeline's cannot run at the same time."""


def _pod(metadata: Raw, spec: Raw) -> ConvertedSpec:
    notes: tuple[str, ...] = ()
    if was_read_back({"metadata": metadata}):
        gone: Raw = {key: spec[key] for key in exported.SERVER_SET_POD_FIELDS if key in spec}
        notes = tuple(fields.spec_notes("Pod", gone))
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
        notes=(*notes, *_updates(spec, "strategy"), _outside("Deployment")),
        exclusive=strategy == "Recreate",
    )


def _updates(spec: Raw, field: str) -> tuple[str, ...]:
    """Returns a note on how a changed template takes effect, if that differs from before."""
    strategy = spec.get(field) or {}
    if strategy.get("type") == "Recreate":
        return ()
    note = "a changed template replaces the Pod: for a while none is Ready"
    if strategy.get("type") == "OnDelete":
        note += f"; spec.{field} is left behind: the change does not wait for the Pod's deletion"
    elif (strategy.get("rollingUpdate") or {}).get("partition"):
        note += f"; spec.{field}.rollingUpdate.partition is left behind: no Pod is exempt"
    return (note,)


def _outside(kind: str) -> str:
    """Returns a note on what may refer to the workload outside of the file."""
    return (
        f"check what names or watches the {kind} elsewhere: kubectl rollout and scale, "
        "autoscalers, alerts; and PodDisruptionBudgets that select its Pod: only those with a "
        "number as minAvailable work"
    )


def _replicas(spec: Raw) -> tuple[Raw, tuple[str, ...]]:
    replicas = 1 if spec.get("replicas") is None else spec["replicas"]
    if replicas == 0:
        return {"suspend": True}, (_NO_POD_YET,)
    return {}, (f"one Pod runs, where {replicas} ran",) if replicas != 1 else ()


def _daemon_set(metadata: Raw, spec: Raw) -> ConvertedSpec:
    return ConvertedSpec(
        template=spec.get("template") or {},
        stop_command=f"delete daemonset {metadata.get('name')}",
        policies={},
        notes=(
            "one Pod runs, on one node, where one ran on each: choose the node with "
            "spec.template.spec.nodeSelector",
            "a DaemonSet's Pods tolerate nodes in trouble, this one only as its template says: "
            f"{_IMPLICIT_TOLERATIONS}",
            *_updates(spec, "updateStrategy"),
            _outside("DaemonSet"),
        ),
    )


def _stateful_set(metadata: Raw, spec: Raw) -> ConvertedSpec:
    """The Pod of the first ordinal goes over: its claims with the data in them, and its address."""
    name = metadata.get("name")
    if not name:
        raise CannotWrapError("a StatefulSet without a name: its claims cannot be told")
    template = spec.get("template") or {}
    policies, notes = _replicas(spec)
    ordinal = (spec.get("ordinals") or {}).get("start") or 0
    member = f"{name}-{ordinal}"
    claims = tuple(_claim(claim, member, spec) for claim in spec.get("volumeClaimTemplates") or ())
    stop_command = f"scale statefulset {name} --replicas=0" if not policies else ""
    return ConvertedSpec(
        template=_member(template, member, spec),
        stop_command=stop_command,
        policies=policies,
        claims=claims,
        notes=(
            *notes,
            *_updates(spec, "updateStrategy"),
            *_of_member(metadata, spec, member, claims),
            _outside("StatefulSet"),
        ),
        exclusive=True,
    )


def _member(template: Raw, member: str, spec: Raw) -> Raw:
    """The template as the StatefulSet controller completes it for one member."""
    if not isinstance(template.get("spec"), dict):
        return template
    pod = dict(template["spec"])
    claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ()}
    volumes = [v for v in pod.get("volumes") or () if v.get("name") not in claimed]
    volumes += [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{member}"}}
        for name in sorted(claimed)
    ]
    address = {"hostname": member}
    if spec.get("serviceName"):
        address["subdomain"] = spec["serviceName"]
    return {**template, "spec": {**pod, **address, **({"volumes": volumes} if volumes else {})}}


def _claim(claim: Raw, member: str, spec: Raw) -> Raw:
    """A member's claim as the StatefulSet controller makes it."""
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
            "name": f"{metadata['name']}-{member}",
            **{key: value for key, value in kept.items() if value},
        },
        "spec": claim.get("spec") or {},
    }


def _of_member(metadata: Raw, spec: Raw, member: str, claims: tuple[Raw, ...]) -> tuple[str, ...]:
    notes = [
        f'the Pod has the hostname "{member}", but not the labels of a member '
        "(statefulset.kubernetes.io/pod-name, apps.kubernetes.io/pod-index)"
    ]
    if claims:
        mine = listed([claim["metadata"]["name"] for claim in claims])
        notes.append(
            f"the data of {member} is kept: the Pod uses its claims ({mine}), which are printed "
            "too, for where they do not exist yet; kubectl delete -f of this output deletes them"
        )
        if (spec.get("replicas") or 0) > 1:
            notes.append("the claims of the other members stay, and no Pod uses them")
    policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    if "Delete" in policy.values():
        retain = '{"whenDeleted":"Retain","whenScaled":"Retain"}'
        keep = f'{{"spec":{{"persistentVolumeClaimRetentionPolicy":{retain}}}}}'
        place = f" -n {metadata['namespace']}" if metadata.get("namespace") else ""
        notes.append(
            "the StatefulSet deletes its claims with itself or its Pods "
            "(persistentVolumeClaimRetentionPolicy); keep them first: "
            f"kubectl patch statefulset {metadata['name']} --type=merge -p '{keep}'{place}"
        )
    return tuple(notes)


def _job(metadata: Raw, spec: Raw) -> ConvertedSpec:
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    if (completions or 1) > 1 or (completions != 1 and (parallelism or 1) > 1):
        raise CannotWrapError(
            f'Job "{metadata.get("name") or metadata.get("generateName")}" runs several Pods '
            "(completions, parallelism), and an InitPipeline has one: leave it a Job"
        )
    template = spec.get("template") or {}
    if not spec.get("manualSelector"):
        template = exported.job_template(template)
    template, notes = _with_deadline(template, spec.get("activeDeadlineSeconds"))
    idle = bool(spec.get("suspend")) or parallelism == 0
    limit = spec.get("backoffLimit")
    policies = {
        "suspend": True if idle else None,
        "backoffLimit": _JOBS_BACKOFF_LIMIT if limit is None else limit,
        "ttlSecondsAfterFinished": spec.get("ttlSecondsAfterFinished"),
    }
    if (template.get("spec") or {}).get("restartPolicy") == "OnFailure":
        notes += (
            "a Job counts the restarts of containers against its backoffLimit, an InitPipeline "
            "counts Pods: limit restarts with spec.initPolicies[].maxRestarts",
        )
    notes += (
        "check what waits for the Job elsewhere, such as kubectl wait, a pipeline or a hook: "
        f"kubectl initpipeline status {PIPELINE} --watch ends when it is done, 0 if it went well",
    )
    return ConvertedSpec(
        template=template,
        stop_command=f"delete job {metadata['name']}" if metadata.get("name") and not idle else "",
        policies={key: value for key, value in policies.items() if value is not None},
        notes=notes,
    )


def _with_deadline(template: Raw, seconds: int | None) -> tuple[Raw, tuple[str, ...]]:
    spec = template.get("spec")
    if seconds is None or not isinstance(spec, dict):
        return template, ()
    own = spec.get("activeDeadlineSeconds")
    least = seconds if own is None else min(own, seconds)
    note = (
        f"activeDeadlineSeconds ({least}) is the Pod's now: it counts for each attempt, not for "
        "all together"
    )
    return {**template, "spec": {**spec, "activeDeadlineSeconds": least}}, (note,)


def _cron_job(metadata: Raw, spec: Raw) -> ConvertedSpec:
    job_template = spec.get("jobTemplate") or {}
    job = job_template.get("spec") or {}
    inner = _job(metadata, job)
    policies = {k: v for k, v in inner.policies.items() if k != "ttlSecondsAfterFinished"}
    notes: tuple[str, ...] = (
        f'the schedule "{spec.get("schedule")}" stays behind: the pipeline runs once when it is '
        f"applied, then whenever it is asked to: kubectl initpipeline rerun {PIPELINE}",
    )
    if spec.get("suspend"):
        policies["suspend"] = True
        notes = (
            f'the schedule "{spec.get("schedule")}" stays behind; the CronJob was suspended, so '
            f"the pipeline is suspended: kubectl initpipeline resume {PIPELINE} starts it",
        )
    of_jobs = [key for key, value in (job_template.get("metadata") or {}).items() if value]
    if of_jobs:
        notes += (f"spec.jobTemplate.metadata is left behind: {listed(of_jobs)} of the Jobs",)
    notes += (*fields.spec_notes("Job", job, "spec.jobTemplate.spec"), *inner.notes)
    if "ttlSecondsAfterFinished" in inner.policies:
        notes += ("ttlSecondsAfterFinished is left out: it would delete the pipeline",)
    suspend = """-p '{"spec":{"suspend":true}}'"""
    return replace(
        inner,
        stop_command=""
        if spec.get("suspend")
        else f"patch cronjob {metadata.get('name')} {suspend}",
        policies=policies,
        notes=notes,
    )


CONVERSION_RULES: Final[Mapping[str, Callable[[Raw, Raw], ConvertedSpec]]] = {
    # Kind to what makes of its metadata and spec the move.
    "Pod": _pod,
    "Deployment": _deployment,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
}


def listed(words: list[Any]) -> str:
    """As in a sentence."""
    return ", ".join(str(word) for word in words)
