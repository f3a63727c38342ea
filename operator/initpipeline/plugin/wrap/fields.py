"""What ``wrap`` does with each field, label and annotation of a workload.

The tables METADATA_FIELDS and SPEC_FIELDS have one rule for each field that the API server
publishes: tests/contract/test_wrap.py fails if a rule is missing. A field of a newer Kubernetes has
no rule, and a note reports that it is not carried over. The tables LABELS and ANNOTATIONS have
rules for keys by which other tools act on the workload.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class FieldHandling(StrEnum):
    """What ``wrap`` does with a field."""

    CARRIED = "carried over"
    """The InitPipeline has the field, or another field with the same effect. A note names values
    for which the effect differs."""
    DROPPED = "dropped"
    """The InitPipeline has no counterpart. A note names the field unless it has its default."""
    REFUSED = "refused"
    """Only the default can be wrapped."""
    IRRELEVANT = "irrelevant"
    """Nothing behaves differently without the field."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The rule for one field."""

    handling: FieldHandling
    explanation: str
    """If the field is dropped: what differs afterwards, for the note. Empty if a conversion rule
    adds a note of its own. In all other cases: the reason for the handling. Users do not see it."""
    defaults: tuple[Any, ...] = ()
    """Values that have the same effect as an absent field."""


def _carried(explanation: str = "unchanged") -> FieldRule:
    return FieldRule(FieldHandling.CARRIED, explanation)


def _dropped(explanation: str, *defaults: Any) -> FieldRule:
    return FieldRule(FieldHandling.DROPPED, explanation, defaults)


def _irrelevant(explanation: str) -> FieldRule:
    return FieldRule(FieldHandling.IRRELEVANT, explanation)


_TEMPLATE: Final = _carried("spec.template")
_SELECTOR: Final = _irrelevant(
    "the operator finds its Pod by owner reference; the Pod keeps its labels"
)
_REPLICAS: Final = _carried("0 becomes spec.suspend; a note reports any other number than 1")
_REVISIONS: Final = _irrelevant(
    "no earlier templates are kept; a note asks the user to check what uses kubectl rollout"
)
_MIN_READY: Final = _dropped("the Pod counts as available as soon as it is Ready", 0)
_UPDATES: Final = _carried("a note describes how a template change takes effect")

METADATA_FIELDS: Final[Mapping[str, FieldRule]] = {
    # All kinds have the same metadata.
    "name": _carried(),
    "generateName": _carried(),
    "namespace": _carried(),
    "labels": _carried("labels of a Pod also go to the template; LABELS has others"),
    "annotations": _carried("annotations of a Pod go to the template; ANNOTATIONS has others"),
    "finalizers": _dropped("their controllers no longer clean up when the object is deleted"),
    "ownerReferences": _dropped(
        "the garbage collector no longer deletes the object with its owner"
    ),
    "deletionTimestamp": _dropped("the workload is being deleted, but not the InitPipeline"),
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
    "activeDeadlineSeconds": _carried(
        "field of the Pod; a note describes that it limits each attempt"
    ),
    "parallelism": FieldRule(
        FieldHandling.REFUSED, "0 becomes spec.suspend; several Pods are refused", (0, 1)
    ),
    "completions": FieldRule(FieldHandling.REFUSED, "several completions are refused", (1,)),
    "completionMode": _dropped(
        "the containers have no JOB_COMPLETION_INDEX, and the hostname has no index",
        "NonIndexed",
    ),
    "backoffLimitPerIndex": _dropped("only spec.backoffLimit applies"),
    "maxFailedIndexes": _dropped("only spec.backoffLimit applies"),
    "successPolicy": _dropped("the run succeeds when all containers have exited with 0"),
    "podFailurePolicy": _dropped(
        "every failed run counts against spec.backoffLimit, unless the cluster disrupted its Pod",
    ),
    "podReplacementPolicy": _irrelevant(
        "the operator creates the next Pod when the old one is gone"
    ),
    "managedBy": _dropped(
        "the operator starts the run at once, and no other controller can hold it back",
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
        "progressDeadlineSeconds": _dropped(
            "to limit the time of the init containers, set spec.initDeadlineSeconds", 600
        ),
        "paused": _dropped("a template change takes effect at once", False),
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
        "serviceName": _carried("becomes the subdomain of the Pod"),
        "ordinals": _carried(
            "the first ordinal is in the Pod's hostname and the names of its claims"
        ),
        "volumeClaimTemplates": _carried("become claims in the output, and volumes of the Pod"),
        "persistentVolumeClaimRetentionPolicy": _carried("a note describes how to keep the claims"),
        "updateStrategy": _UPDATES,
        "minReadySeconds": _MIN_READY,
        "podManagementPolicy": _irrelevant("an InitPipeline runs one Pod"),
        "revisionHistoryLimit": _REVISIONS,
    },
    "Job": _JOB,
    "CronJob": {
        "jobTemplate": _carried("converted as a Job"),
        "schedule": _dropped(""),
        "suspend": _carried("spec.suspend"),
        "timeZone": _dropped("an InitPipeline has no schedule"),
        "concurrencyPolicy": _dropped("a rerun request replaces a run in progress", "Allow"),
        "startingDeadlineSeconds": _dropped("an InitPipeline has no schedule"),
        "successfulJobsHistoryLimit": _dropped(
            "spec.runHistoryLimit applies to runs of any result", 3
        ),
        "failedJobsHistoryLimit": _dropped("spec.runHistoryLimit applies to runs of any result", 1),
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
        "nodeName": _dropped(
            "the scheduler chooses a node for the new Pod; if you set the field yourself, use "
            "spec.template.spec.nodeSelector"
        ),
        "ephemeralContainers": _dropped("they were added to the running Pod for debugging"),
        "priority": _irrelevant("admission sets it from priorityClassName"),
        "preemptionPolicy": _irrelevant("admission sets it from priorityClassName"),
        "overhead": _irrelevant("admission sets it from runtimeClassName"),
    },
}
"""The rules for the fields of each kind's spec. The rules for a Pod that leave a field behind apply
only to a Pod that was read from a cluster."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """The rule for labels or annotations by which a tool acts on the workload."""

    keys: str
    """A verbose regular expression that matches whole keys."""
    explanation: str
    """What differs afterwards, for the note. Empty: no note is needed."""


_HELM_HOOK: Final = r"helm\.sh/hook"
OBJECT_ANNOTATIONS: Final = re.compile(
    r"helm\.sh/.*|argocd\.argoproj\.io/.*|config\.kubernetes\.io/.*"
)
"""Annotations that a tool reads on the object that was applied, even if that object is a Pod."""

ANNOTATIONS: Final = (
    KeyRule(
        _HELM_HOOK,
        "Helm waits until a hook that is a Job or Pod has completed, but for an InitPipeline only "
        "until it is created",
    ),
    KeyRule(
        r"argocd\.argoproj\.io/(hook|sync-wave)",
        "Argo CD waits until the init containers have succeeded and the Pod is Ready, not until "
        "the app containers exit, if the health check in manifests/argocd is installed",
    ),
    KeyRule(
        r"argocd\.argoproj\.io/tracking-id|meta\.helm\.sh/release-name",
        "the tool that deployed the workload restores it, unless you remove it from that tool's "
        "source",
    ),
    KeyRule(
        r"sidecar\.istio\.io/status|linkerd\.io/proxy-version"
        r"|vault\.hashicorp\.com/agent-inject-status",
        "the Pod has containers that an admission webhook injected and may inject again: wrap the "
        "manifest without them",
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
"""The rules for annotations. The first rule that matches applies. A note lists keys without a
rule."""

LABELS: Final = (
    KeyRule(
        r"kueue\.x-k8s\.io/.*",
        "Kueue does not manage InitPipelines, so its quota does not limit this one",
    ),
)
"""The rules for labels. Most labels only select, so a label without a rule needs no note."""

CONTROLLER_LABELS: Final = frozenset(
    {
        *("pod-template-hash", "controller-revision-hash", "pod-template-generation"),
        *("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"),
        *("job-name", "controller-uid", "batch.kubernetes.io/job-name"),
        *("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index"),
    }
)
"""Labels that the workload controllers set on their Pods."""


def spec_notes(kind: str, spec: Mapping[str, Any], path: str = "spec") -> Iterator[str]:
    """Yields a note for each field of a workload's spec that has no counterpart."""
    return _notes(SPEC_FIELDS[kind], spec, path)


def metadata_notes(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yields a note for each field of a workload's metadata that has no counterpart."""
    return _notes(METADATA_FIELDS, metadata, "metadata")


def key_notes(kind: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yields notes on labels and annotations by which other tools act on the workload. The new Pod
    has the annotations of a wrapped Pod, so tools that act on Pods still read them."""
    for field, rules in (("labels", LABELS), ("annotations", ANNOTATIONS)):
        unknown = []
        for key in metadata.get(field) or ():
            rule = next((rule for rule in rules if _fits(rule, key)), None)
            if rule is not None and rule.explanation:
                yield f"{field[:-1]} {key}: {rule.explanation}"
            elif rule is None:
                unknown.append(key)
        if unknown and field == "annotations" and kind != "Pod":
            yield (
                f"annotations are carried over, but tools that read them may act on {kind}s only: "
                f"{', '.join(unknown)}"
            )


def _fits(rule: KeyRule, key: str) -> bool:
    return re.fullmatch(rule.keys, key, re.VERBOSE) is not None


def _notes(rules: Mapping[str, FieldRule], values: Mapping[str, Any], path: str) -> Iterator[str]:
    for field, value in values.items():
        rule = rules.get(field)
        if value in (None, [], {}) or (rule and value in rule.defaults):
            continue
        if rule is None:
            yield (
                f"{path}.{field} is not carried over: this version of wrap does not know the field"
            )
        elif rule.handling is FieldHandling.DROPPED and rule.explanation:
            yield f"{path}.{field} is not carried over: {rule.explanation}"
