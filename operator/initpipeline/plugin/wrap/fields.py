"""Table of what ``wrap`` does with each field of a workload.

There is one row for each field that the API server publishes for a kind:
tests/contract/test_wrap.py fails if one is missing. A field of a newer Kubernetes has no row, and a
note names it as left behind.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Raw = dict[str, Any]


class FieldHandling(StrEnum):
    """What becomes of a field."""

    CARRIED = "carried over"
    """The InitPipeline has it, or a field of its own with the same effect. If that is not so for
    some values, a note names them."""
    LEFT_BEHIND = "left behind"
    """It has no counterpart. A note names it unless it has its default."""
    REFUSED = "refused"
    """A value other than the default cannot be wrapped."""
    IRRELEVANT = "irrelevant"
    """Nothing behaves differently without it."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field."""

    handling: FieldHandling
    words: str
    """LEFT_BEHIND: what differs afterwards, or "" if the note on the kind names it.
    Otherwise: where it goes, or why it is not needed."""
    defaults: tuple[Any, ...] = ()
    """Values that have the same effect as an absent field."""


def _carried(words: str = "as it is") -> FieldRule:
    return FieldRule(FieldHandling.CARRIED, words)


def _left_behind(words: str, *defaults: Any) -> FieldRule:
    return FieldRule(FieldHandling.LEFT_BEHIND, words, defaults)


def _irrelevant(words: str) -> FieldRule:
    return FieldRule(FieldHandling.IRRELEVANT, words)


_TEMPLATE: Final = _carried("spec.template")
_SELECTOR: Final = _irrelevant("the InitPipeline owns its Pod by UID; the Pod's labels stay")
_REPLICAS: Final = _carried("0 as spec.suspend; a note on one Pod instead of several")
_REVISIONS: Final = _irrelevant("earlier templates are not kept: a note on kubectl rollout")
_MIN_READY: Final = _left_behind("the Pod counts as available as soon as it is Ready", 0)
_UPDATES: Final = _carried("a note on the Pod being replaced at once by a changed template")

METADATA_FIELDS: Final[Mapping[str, FieldRule]] = {
    "name": _carried(),
    "generateName": _carried(),
    "namespace": _carried(),
    "labels": _carried("of a Pod: also to the template; others by LABELS"),
    "annotations": _carried("of a Pod: to the template; others by ANNOTATIONS"),
    "finalizers": _left_behind("what they guard may be deleted without it"),
    "ownerReferences": _left_behind("garbage collection no longer deletes it with its owner"),
    "deletionTimestamp": _left_behind("it is being deleted, and the InitPipeline is not"),
    "deletionGracePeriodSeconds": _irrelevant("part of the deletion"),
    "creationTimestamp": _irrelevant("set by the API server"),
    "generation": _irrelevant("set by the API server"),
    "managedFields": _irrelevant("set by the API server"),
    "resourceVersion": _irrelevant("set by the API server"),
    "selfLink": _irrelevant("set by the API server"),
    "uid": _irrelevant("set by the API server"),
}

_JOB: Final[Mapping[str, FieldRule]] = {
    "template": _TEMPLATE,
    "suspend": _carried("spec.suspend"),
    "backoffLimit": _carried("spec.backoffLimit"),
    "ttlSecondsAfterFinished": _carried("spec.ttlSecondsAfterFinished"),
    "activeDeadlineSeconds": _carried("of the Pod, with a note that it counts for each attempt"),
    "parallelism": FieldRule(
        FieldHandling.REFUSED, "0 as spec.suspend; several Pods are refused", (0, 1)
    ),
    "completions": FieldRule(FieldHandling.REFUSED, "several are refused", (1,)),
    "completionMode": _left_behind(
        "the container has no JOB_COMPLETION_INDEX, and the Pod no index in its hostname",
        "NonIndexed",
    ),
    "backoffLimitPerIndex": _left_behind("backoffLimit counts alone"),
    "maxFailedIndexes": _left_behind("backoffLimit counts alone"),
    "successPolicy": _left_behind("the run succeeds when all containers have ended well"),
    "podFailurePolicy": _left_behind(
        "every failed run counts against spec.backoffLimit, but a Pod that the cluster disrupts "
        "never does",
    ),
    "podReplacementPolicy": _irrelevant("there is one Pod: the next is made when it is gone"),
    "managedBy": _left_behind(
        "no other controller decides when it runs: the operator starts it at once",
        "kubernetes.io/job-controller",
    ),
    "selector": _SELECTOR,
    "manualSelector": _SELECTOR,
}

SPEC_FIELDS: Final[Mapping[str, Mapping[str, FieldRule]]] = {
    "Deployment": {
        "template": _TEMPLATE,
        "replicas": _REPLICAS,
        "selector": _SELECTOR,
        "strategy": _UPDATES,
        "minReadySeconds": _MIN_READY,
        "progressDeadlineSeconds": _left_behind(
            "spec.initDeadlineSeconds limits how long the init containers take", 600
        ),
        "paused": _left_behind("a changed template is rolled out at once", False),
        "revisionHistoryLimit": _REVISIONS,
    },
    "DaemonSet": {
        "template": _TEMPLATE,
        "selector": _SELECTOR,
        "updateStrategy": _UPDATES,
        "minReadySeconds": _MIN_READY,
        "revisionHistoryLimit": _REVISIONS,
    },
    "StatefulSet": {
        "template": _TEMPLATE,
        "replicas": _REPLICAS,
        "selector": _SELECTOR,
        "serviceName": _carried("subdomain of the Pod"),
        "ordinals": _carried("the first is in the Pod's hostname and in the names of its claims"),
        "volumeClaimTemplates": _carried("claims of their own, and volumes of the Pod"),
        "persistentVolumeClaimRetentionPolicy": _carried("a note on how to keep the claims"),
        "updateStrategy": _UPDATES,
        "minReadySeconds": _MIN_READY,
        "podManagementPolicy": _irrelevant("there is one Pod"),
        "revisionHistoryLimit": _REVISIONS,
    },
    "Job": _JOB,
    "CronJob": {
        "jobTemplate": _carried("as a Job"),
        "schedule": _left_behind(""),
        "suspend": _carried("spec.suspend"),
        "timeZone": _left_behind("there is no schedule"),
        "concurrencyPolicy": _left_behind(
            "a request while a run is under way replaces it", "Allow"
        ),
        "startingDeadlineSeconds": _left_behind("there is no schedule"),
        "successfulJobsHistoryLimit": _left_behind(
            "spec.runHistoryLimit keeps runs of any result", 3
        ),
        "failedJobsHistoryLimit": _left_behind("spec.runHistoryLimit keeps runs of any result", 1),
    },
    "Pod": {
        **dict.fromkeys(
            (
                *("activeDeadlineSeconds", "affinity", "automountServiceAccountToken"),
                *("containers", "dnsConfig", "dnsPolicy", "enableServiceLinks", "hostAliases"),
                *("hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname"),
                *("hostnameOverride", "imagePullSecrets", "initContainers", "nodeSelector", "os"),
                *("priorityClassName", "readinessGates", "resourceClaims", "resources"),
                *("restartPolicy", "runtimeClassName", "schedulerName", "schedulingGates"),
                *("schedulingGroup", "securityContext", "serviceAccount", "serviceAccountName"),
                *("setHostnameAsFQDN", "shareProcessNamespace", "subdomain"),
                *("terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints"),
            ),
            _carried(),
        ),
        "volumes": _carried("without the token volume that admission added"),
        "nodeName": _left_behind(
            "the scheduler chose it for the old Pod, so it chooses again; if a person did, use "
            "spec.template.spec.nodeSelector"
        ),
        "ephemeralContainers": _left_behind("they were added to the Pod that runs"),
        "priority": _irrelevant("admission sets it by priorityClassName"),
        "preemptionPolicy": _irrelevant("admission sets it by priorityClassName"),
        "overhead": _irrelevant("admission sets it by runtimeClassName"),
    },
}
"""By kind, the fields of its spec. A Pod has fields that are not carried only if it was read back
from a cluster."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """Labels or annotations by which something else acts on the workload."""

    keys: str
    """A regular expression of whole keys."""
    words: str
    """What differs afterwards, printed after the key. "" for no note."""


_HELM_HOOK: Final = r"helm\.sh/hook"
OBJECT_ANNOTATIONS: Final = re.compile(
    r"helm\.sh/.*|argocd\.argoproj\.io/.*|config\.kubernetes\.io/.*"
)
"""Annotations about the applied object, even if that is a Pod."""

ANNOTATIONS: Final = (
    KeyRule(
        _HELM_HOOK,
        "Helm waits for the end of hooks that are Jobs or Pods; of an InitPipeline it only "
        "waits until it is created",
    ),
    KeyRule(
        r"argocd\.argoproj\.io/(hook|sync-wave)",
        "Argo CD waits for the InitPipeline's health, if it knows how to assess it: see "
        "manifests/argocd",
    ),
    KeyRule(
        r"argocd\.argoproj\.io/tracking-id|meta\.helm\.sh/release-name",
        "the tool that deployed it restores the old one unless it is removed there",
    ),
    KeyRule(
        r"sidecar\.istio\.io/status|linkerd\.io/proxy-version"
        r"|vault\.hashicorp\.com/agent-inject-status",
        "the Pod has containers that admission injected, and admission may inject them again: "
        "wrap the manifest from before the injection",
    ),
    KeyRule(
        r"kubectl\.kubernetes\.io/.* | deployment\.kubernetes\.io/.*"
        r"| deprecated\.daemonset\.template\.generation | kubernetes\.io/.*"
        r"| batch\.kubernetes\.io/.* | cronjob\.kubernetes\.io/instantiate"
        r"| helm\.sh/.* | argocd\.argoproj\.io/.* | meta\.helm\.sh/.* | config\.kubernetes\.io/.*"
        r"| cni\.projectcalico\.org/.* | k8s\.v1\.cni\.cncf\.io/network-status",
        "",
    ),
)
"""The first row that matches decides. A key without a row is listed as read by another tool."""

LABELS: Final = (
    KeyRule(
        r"kueue\.x-k8s\.io/.*",
        "Kueue does not know InitPipelines, so its quota does not hold this one back",
    ),
)

CONTROLLER_LABELS: Final = frozenset(
    {
        *("pod-template-hash", "controller-revision-hash", "pod-template-generation"),
        *("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"),
        *("job-name", "controller-uid", "batch.kubernetes.io/job-name"),
        *("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index"),
    }
)
"""Labels that the controllers of workloads set on their Pods."""


def spec_notes(kind: str, spec: Mapping[str, Any], path: str = "spec") -> Iterator[str]:
    """Yields a note for each field of a workload's spec that is left behind."""
    return _notes(SPEC_FIELDS[kind], spec, path)


def metadata_notes(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yields a note for each field of its metadata that is left behind."""
    return _notes(METADATA_FIELDS, metadata, "metadata")


def key_notes(kind: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yields notes on labels and annotations by which other tools act on the workload. A Pod keeps
    its annotations, and tools that act on Pods still read them."""
    for field, rows in (("labels", LABELS), ("annotations", ANNOTATIONS)):
        unknown = []
        for key in metadata.get(field) or ():
            row = next((row for row in rows if _fits(row, key)), None)
            if row is not None and row.words:
                yield f"{field[:-1]} {key}: {row.words}"
            elif row is None:
                unknown.append(key)
        if unknown and field == "annotations" and kind != "Pod":
            yield (
                f"annotations are carried over, but tools that read them may act on {kind}s only: "
                f"{', '.join(unknown)}"
            )


def _fits(row: KeyRule, key: str) -> bool:
    return re.fullmatch(row.keys, key, re.VERBOSE) is not None


def _notes(rows: Mapping[str, FieldRule], found: Mapping[str, Any], path: str) -> Iterator[str]:
    for field, value in found.items():
        row = rows.get(field)
        if value in (None, [], {}) or (row and value in row.defaults):
            continue
        if row is None:
            yield f"{path}.{field} is left behind: this version does not know the field"
        elif row.handling is FieldHandling.LEFT_BEHIND and row.words:
            yield f"{path}.{field} is left behind: {row.words}"
