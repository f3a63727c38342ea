"""What the API server and its controllers add to an object, so that `kubectl get -o yaml` shows it.

A manifest that a person wrote is left alone. One that was read back from a cluster carries defaults
and traces of the object that it was: names of generated volumes, the node, labels that tie it to
its controller. In another object they are wrong, or refused.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

Raw = dict[str, Any]

_BOOKKEEPING: Final = re.compile(
    r"""kubectl\.kubernetes\.io/last-applied-configuration
    | deployment\.kubernetes\.io/.* | deprecated\.daemonset\.template\.generation
    | batch\.kubernetes\.io/job-tracking | batch\.kubernetes\.io/cronjob-scheduled-timestamp
    | cronjob\.kubernetes\.io/instantiate
    | meta\.helm\.sh/.* | argocd\.argoproj\.io/tracking-id
    | cni\.projectcalico\.org/.* | k8s\.v1\.cni\.cncf\.io/network-status
    | kubernetes\.io/limit-ranger""",
    re.VERBOSE,
)
"""Annotations by which a tool keeps account of this one object."""

_JOB_CONTROLLER_LABELS: Final = frozenset(
    {
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "controller-uid",
        "job-name",
    }
)
"""What the Job controller writes into a Job's own template."""

SERVER_SET_POD_FIELDS: Final = (
    "nodeName",
    "priority",
    "preemptionPolicy",
    "overhead",
    "ephemeralContainers",
)
"""What the scheduler, admission and people at work have set in a Pod's spec since it was made."""

_TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_VOLUME: Final = re.compile(r"kube-api-access-[a-z0-9]{5}|.*-token-[a-z0-9]{5}")
"""The volume that the service account admission plugin adds, as of and before Kubernetes 1.21."""


def was_read_back(manifest: Mapping[str, Any]) -> bool:
    """Whether it comes from a cluster: nobody writes a UID or a resourceVersion."""
    metadata = manifest.get("metadata") or {}
    return bool(metadata.get("uid") or metadata.get("resourceVersion"))


def own_annotations(annotations: Mapping[str, str] | None) -> Raw:
    """The annotations that would be true of another object too."""
    return {k: v for k, v in (annotations or {}).items() if not _BOOKKEEPING.fullmatch(k)}


def job_template(template: Raw) -> Raw:
    """A Job's template without the labels that tie Pods to that Job."""
    metadata = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    own = {key: value for key, value in labels.items() if key not in _JOB_CONTROLLER_LABELS}
    if own == labels:
        return template
    kept = {key: value for key, value in {**metadata, "labels": own}.items() if value}
    rest = {key: value for key, value in template.items() if key != "metadata"}
    return {**({"metadata": kept} if kept else {}), **rest}


def template(template: Raw) -> Raw:
    """A workload's template, read back, as it was written but for harmless defaults.

    The default of terminationMessagePolicy is not harmless: without it the operator has the end of
    a failed init container's log kept as evidence.
    """
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    spec = dict(template["spec"])
    spec["initContainers"] = [_without_default(c) for c in spec.get("initContainers") or ()]
    kept = {key: value for key, value in template.items() if key != "metadata"}
    return {**({"metadata": metadata} if metadata else {}), **kept, "spec": spec}


def pod_spec(spec: Raw) -> Raw:
    """The spec of a Pod that was read back, ready for another Pod."""
    kept = {key: value for key, value in spec.items() if key not in SERVER_SET_POD_FIELDS}
    tokens = {
        mount["name"]
        for container in _containers(spec)
        for mount in container.get("volumeMounts") or ()
        if mount.get("mountPath") == _TOKEN_PATH and _TOKEN_VOLUME.fullmatch(mount["name"])
    }
    for field in ("initContainers", "containers"):
        if kept.get(field):
            kept[field] = [_without_mounts(container, tokens) for container in kept[field]]
    volumes = [v for v in kept.pop("volumes", None) or () if v.get("name") not in tokens]
    return {**kept, **({"volumes": volumes} if volumes else {})}


def _containers(spec: Raw) -> list[Raw]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _without_mounts(container: Raw, volumes: set[str]) -> Raw:
    mounts = [m for m in container.get("volumeMounts") or () if m.get("name") not in volumes]
    kept = {key: value for key, value in container.items() if key != "volumeMounts"}
    return {**kept, **({"volumeMounts": mounts} if mounts else {})}


def _without_default(container: Raw) -> Raw:
    default = ("terminationMessagePolicy", "File")
    return {key: value for key, value in container.items() if (key, value) != default}
