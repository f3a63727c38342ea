"""Removal of what the API server and controllers have added to an object in the cluster.

A manifest that was read with ``kubectl get -o yaml`` contains defaults and facts about one object:
generated volumes, the node, labels that controllers set. In another object they are wrong, or the
API server refuses them. A manifest that a user wrote is not changed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from initpipeline.api.raw import Raw

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
"""Annotations in which a tool records facts about this one object."""

_JOB_CONTROLLER_LABELS: Final = frozenset(
    {
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "controller-uid",
        "job-name",
    }
)
"""Labels that the API server adds to a Job's template."""

SERVER_SET_POD_FIELDS: Final = (
    "nodeName",
    "priority",
    "preemptionPolicy",
    "overhead",
    "ephemeralContainers",
)
"""Fields of a Pod's spec that the scheduler, admission and ``kubectl debug`` set."""

_TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_VOLUME: Final = re.compile(r"kube-api-access-[a-z0-9]{5}|.*-token-[a-z0-9]{5}")
"""The volume that the ServiceAccount admission plugin adds: since Kubernetes 1.21, and before."""


def was_read_back(manifest: Mapping[str, Any]) -> bool:
    """Returns whether the manifest was read from a cluster. It has a UID or a resourceVersion then,
    which only the API server sets."""
    metadata = manifest.get("metadata") or {}
    return bool(metadata.get("uid") or metadata.get("resourceVersion"))


def own_annotations(annotations: Mapping[str, str] | None) -> Raw:
    """Returns the annotations without those that are about this one object."""
    return {k: v for k, v in (annotations or {}).items() if not _BOOKKEEPING.fullmatch(k)}


def job_template(template: Raw) -> Raw:
    """Returns a Job's template without the labels by which that Job selects its Pods."""
    metadata = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    own = {key: value for key, value in labels.items() if key not in _JOB_CONTROLLER_LABELS}
    if own == labels:
        return template
    kept = {key: value for key, value in {**metadata, "labels": own}.items() if value}
    rest = {key: value for key, value in template.items() if key != "metadata"}
    return {**({"metadata": kept} if kept else {}), **rest}


def template(template: Raw) -> Raw:
    """Returns the template of a workload that was read from a cluster. Most defaults of the API
    server are harmless and kept.

    The default of an init container's terminationMessagePolicy is removed, because the operator
    sets FallbackToLogsOnError only on init containers without the field.
    """
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    spec = dict(template["spec"])
    spec["initContainers"] = [_without_default(c) for c in spec.get("initContainers") or ()]
    kept = {key: value for key, value in template.items() if key != "metadata"}
    return {**({"metadata": metadata} if metadata else {}), **kept, "spec": spec}


def pod_spec(spec: Raw) -> Raw:
    """Returns the spec of a Pod that was read from a cluster, as it can be used for another Pod."""
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
