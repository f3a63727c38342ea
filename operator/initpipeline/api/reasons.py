"""Every value that automation may match on: condition types, reasons, event reasons, triggers,
results and policies.

The docstring below a value is its text in docs/reference.md, and for a field's value also in
``kubectl explain``. The first paragraph of a reason is its meaning, the second is what a user does
about it. ``make generate`` writes both.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self

from initpipeline.api.names import MAX_IDENTIFIER_LENGTH


class OpenEnum(StrEnum):
    """An enumeration that also accepts values which only a newer version knows.

    An unknown value is kept as it is, and is not identical to any member. Otherwise an operator
    that is older than the writer of an InitPipeline could not read it, and would leave it
    unmanaged.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_IDENTIFIER_LENGTH:
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown

    @property
    def is_known(self) -> bool:
        """Whether this version has the value."""
        return self.name in type(self).__members__


class ConditionType(StrEnum):
    """Types of ``status.conditions``. Reconciling and Stalled are as kstatus defines them."""

    INITIALIZED = "Initialized"
    """All steps of the current run have completed: init containers have succeeded, and sidecars
    have started."""
    READY = "Ready"
    """The Pod is Ready, or it has succeeded."""
    RECONCILING = "Reconciling"
    """The current run has neither ended nor been initialized, the Pod is being deleted, the
    operator's deletion request fails, or the next run is delayed. Absent otherwise. If Stalled is
    True, it is usually absent too."""
    STALLED = "Stalled"
    """The InitPipeline needs user action, which the message names. If the cause is a refused Pod, a
    failing request or reconcile, another Pod with its name, or a Pod that does not terminate, the
    operator continues by itself when the cause is gone. If backoffLimit or rerunPolicy permits no
    further run, a user must start one, change that field, or raise the limit that the run exceeded.
    If the operator refuses spec, or cannot read spec or status, a user must correct it. Absent
    otherwise."""
    SUSPENDED = "Suspended"
    """spec.suspend is true and has taken effect. With the reason RateLimited, spec.suspend is false
    again, and the next run waits. Absent otherwise."""
    IN_PLACE_UNAVAILABLE = "InPlaceUnavailable"
    """spec.rerunStrategy is InPlace, but if an app container restarts, the operator replaces the
    Pod. Absent otherwise."""


class Reason(OpenEnum):
    """Reasons of conditions. ``kubectl get ipl`` shows that of Ready in the column REASON."""

    POD_PENDING = "PodPending"
    """The Pod is about to be created, or it has not been assigned to a node yet.

    Wait. If this lasts, check that the scheduler is running, and whether the Pod has scheduling
    gates."""
    POD_UNSCHEDULABLE = "PodUnschedulable"
    """No node fits the Pod. The message is the scheduler's.

    Change the resource requests or placement rules of the template, or add nodes. The scheduler
    retries."""
    STEP_PENDING = "StepPending"
    """The current step has not started: its volumes, network or image are not ready yet.

    Wait. If this lasts, run `kubectl initpipeline explain NAME`: volume and network problems are
    reported only in the Pod's events."""
    STEP_RUNNING = "StepRunning"
    """The current step is running.

    Wait, or follow its log: `kubectl initpipeline logs NAME -f`."""
    STEP_FAILED = "StepFailed"
    """The current step failed, or could not be started. A step that cannot be started usually has a
    command that is not in its image.

    Read its log: `kubectl initpipeline logs NAME STEP`. Correct the template, which starts a
    run."""
    STEP_BACK_OFF = "StepBackOff"
    """The current step failed, and the kubelet waits before it restarts it.

    Read its log: `kubectl initpipeline logs NAME STEP`. Correct the template, which starts a
    run."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """An image cannot be pulled. The message names the image and the error.

    Correct the image or its pull secrets in the template. If the registry was unavailable, wait:
    the kubelet retries."""
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    """A container cannot be created. The usual cause is a ConfigMap, a Secret or a key that does
    not exist.

    Create the object that the message names: the kubelet retries. Or correct the template."""
    INITIALIZED = "Initialized"
    """All steps of the current run have completed."""
    CONTAINERS_NOT_READY = "ContainersNotReady"
    """The run is initialized, but the Pod is not Ready.

    Wait. If this lasts, read the logs of the containers that the message names, and check their
    readiness probes."""
    CONTAINER_FAILED = "ContainerFailed"
    """An app container failed, or a sidecar if no app container did. The message names it.

    Read its log: `kubectl logs NAME --all-containers`."""
    POD_READY = "PodReady"
    """The Pod is Ready."""
    POD_SUCCEEDED = "PodSucceeded"
    """All containers of the Pod terminated successfully."""
    POD_FAILED = "PodFailed"
    """The Pod failed, and none of its containers shows why.

    Read the message and the Pod's events: `kubectl describe pod NAME`."""
    POD_EVICTED = "PodEvicted"
    """The kubelet evicted the Pod because it exceeded a limit of its own spec: the sizeLimit of an
    emptyDir, or a limit of ephemeral-storage.

    Raise the limit in the template, or write less."""
    POD_DEADLINE_EXCEEDED = "PodDeadlineExceeded"
    """The Pod ran longer than the activeDeadlineSeconds of its own spec.

    Raise activeDeadlineSeconds in the template, or find out what takes so long."""
    NODE_NOT_READY = "NodeNotReady"
    """The node has stopped reporting, so the node lifecycle controller set the Pod's Ready
    condition to False. The state of the containers has been unknown since then.

    Check the node: `kubectl describe node NODE`."""
    POD_LOST = "PodLost"
    """The run's Pod was deleted, or the cluster terminated it: drain, node pressure, preemption,
    shutdown or loss of the node, rejection by the kubelet. Or its ownerReferences were changed.

    If rerunPolicy is Never, request a run. Otherwise the next run starts automatically."""
    POD_TERMINATING = "PodTerminating"
    """A Pod with the name of the InitPipeline is being deleted. The operator continues when that
    Pod is gone.

    Wait. If the InitPipeline is Stalled, follow the remedy in the message."""
    INVALID_TEMPLATE = "InvalidTemplate"
    """The API server rejects the Pod as invalid, or the spec breaks a rule of the admission policy
    that the operator also checks. In the first case the message is the API server's.

    Correct the template, or the LimitRange, webhook or policy that changes the Pod."""
    POD_FORBIDDEN = "PodForbidden"
    """Pod Security, a LimitRange, RBAC, a policy or a webhook rejects the Pod. The message is the
    API server's.

    Change the template, create the missing object that the message names, or ask an administrator
    to allow the Pod."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """The Pod exceeds a ResourceQuota. The message is the API server's.

    Free or raise the quota: `kubectl describe quota`."""
    QUOTA_REQUIRES_RESOURCES = "QuotaRequiresResources"
    """A ResourceQuota requires requests or limits that containers of the Pod do not have. The
    message is the API server's and names them.

    Add the requests or limits to the template, or create a LimitRange with defaults."""
    POD_REQUEST_FAILED = "PodRequestFailed"
    """The request to create the Pod has failed at least twice in a row, and the API server does not
    report that the Pod is the cause. The message has the error, and whether the Pod may exist
    nevertheless.

    Wait. If this lasts, check the API server, and whether an admission webhook for Pods is slow."""
    DELETION_FAILED = "DeletionFailed"
    """The request to delete the Pod, or after ttlSecondsAfterFinished the InitPipeline, has failed
    at least twice in a row. The message has the error. A Pod that must be deleted runs until a
    request succeeds, and the next run waits for that.

    Check the permissions of the operator, and the admission webhooks and policies that refuse the
    deletion."""
    NAME_CONFLICT = "NameConflict"
    """A Pod with this name exists, and the InitPipeline does not own it.

    Delete that Pod: the operator creates its own within seconds. Or give the InitPipeline another
    name."""
    RERUN_BACK_OFF = "RerunBackOff"
    """The next run waits until status.nextRunTime, because restarts, lost Pods or failures have
    caused several runs in a row.

    Find the cause in status.history. To start a run without this delay, request one."""
    RATE_LIMITED = "RateLimited"
    """A user changed the template, requested a run or resumed the InitPipeline, and the run waits
    until status.nextRunTime. Users can start five runs of an InitPipeline without delay, and then
    one every ten seconds. With a runHistoryLimit below 4, fewer start without delay.

    Wait. If this lasts, find out which client changes the template or requests runs that often."""
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    """More runs have failed than spec.backoffLimit allows, and no other run follows.

    Correct the template, request a run, or raise spec.backoffLimit. If the run exceeded a limit,
    raise that limit."""
    STEP_TIMED_OUT = "StepTimedOut"
    """An attempt of the current step took longer than its timeoutSeconds.

    Find out what the step waits for, or raise timeoutSeconds. Raising it starts a run."""
    RESTART_LIMIT_EXCEEDED = "RestartLimitExceeded"
    """The current step failed, and restarting it again would exceed its maxRestarts.

    Correct the template or raise maxRestarts: either starts a run. The log of the step shows the
    cause."""
    INIT_DEADLINE_EXCEEDED = "InitDeadlineExceeded"
    """The run was not initialized within initDeadlineSeconds. The message names the step that was
    current.

    Find out what the step waits for, or raise initDeadlineSeconds. Raising it starts a run."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: the operator deletes the Pod and starts no run.

    Set spec.suspend to false, which starts a run."""
    IN_PLACE_UNSUPPORTED = "InPlaceUnsupported"
    """The cluster or the node does not support RestartAllContainers (Kubernetes 1.36). If an app
    container restarts, the operator replaces the Pod.

    Upgrade the cluster, or set rerunStrategy to Recreate."""
    IN_PLACE_TOO_OFTEN = "InPlaceTooOften"
    """The last in-place restart was less than ten minutes ago, or restarts, lost Pods or failures
    have caused several runs in a row. If an app container restarts, the operator replaces the Pod,
    with back-off.

    Find out why the container terminates: see the cause of the runs in status.history."""
    UNREADABLE = "Unreadable"
    """The InitPipeline has a value that this version of the operator cannot read. The message names
    the field. The operator does not act on the InitPipeline.

    Correct the field. For a field of status: `kubectl edit ipl NAME --subresource=status`."""
    RECONCILE_ERROR = "ReconcileError"
    """The operator failed to reconcile this InitPipeline, because of a bug. It retries with
    back-off. The Pod, Initialized and Ready stay as they are.

    Open an issue with the error that one of the operator's replicas logged: `kubectl logs -n
    initpipeline-system -l app.kubernetes.io/name=initpipeline --prefix --tail=-1`."""


_STEP: Final = (ConditionType.INITIALIZED, ConditionType.READY, ConditionType.RECONCILING)
_FAILED: Final = (ConditionType.INITIALIZED, ConditionType.READY)
_NO_POD: Final = (*_STEP, ConditionType.STALLED)
_REFUSED: Final = (*_FAILED, ConditionType.STALLED)
_READY: Final = (ConditionType.READY,)
_IN_PLACE: Final = (ConditionType.IN_PLACE_UNAVAILABLE,)

CONDITIONS: Final[Mapping[Reason, tuple[ConditionType, ...]]] = {
    Reason.POD_PENDING: _STEP,
    Reason.POD_UNSCHEDULABLE: _STEP,
    Reason.STEP_PENDING: _STEP,
    Reason.STEP_RUNNING: _STEP,
    Reason.STEP_FAILED: _STEP,
    Reason.STEP_BACK_OFF: _STEP,
    Reason.IMAGE_PULL_FAILED: _STEP,
    Reason.CONTAINER_CONFIG_ERROR: _STEP,
    Reason.INITIALIZED: (ConditionType.INITIALIZED,),
    Reason.CONTAINERS_NOT_READY: _READY,
    Reason.CONTAINER_FAILED: _READY,
    Reason.POD_READY: _READY,
    Reason.POD_SUCCEEDED: _READY,
    Reason.POD_FAILED: _FAILED,
    Reason.POD_EVICTED: _FAILED,
    Reason.POD_DEADLINE_EXCEEDED: _FAILED,
    Reason.NODE_NOT_READY: _READY,
    Reason.POD_LOST: _REFUSED,
    Reason.POD_TERMINATING: _NO_POD,
    Reason.INVALID_TEMPLATE: _REFUSED,
    Reason.POD_FORBIDDEN: _NO_POD,
    Reason.QUOTA_EXCEEDED: _NO_POD,
    Reason.QUOTA_REQUIRES_RESOURCES: _REFUSED,
    Reason.POD_REQUEST_FAILED: _NO_POD,
    Reason.DELETION_FAILED: _NO_POD,
    Reason.NAME_CONFLICT: _NO_POD,
    Reason.RERUN_BACK_OFF: (ConditionType.READY, ConditionType.RECONCILING),
    Reason.RATE_LIMITED: (*_STEP, ConditionType.SUSPENDED),
    Reason.BACKOFF_LIMIT_EXCEEDED: (ConditionType.STALLED,),
    Reason.STEP_TIMED_OUT: _FAILED,
    Reason.RESTART_LIMIT_EXCEEDED: _FAILED,
    Reason.INIT_DEADLINE_EXCEEDED: _FAILED,
    Reason.SUSPENDED: (*_FAILED, ConditionType.SUSPENDED),
    Reason.IN_PLACE_UNSUPPORTED: _IN_PLACE,
    Reason.IN_PLACE_TOO_OFTEN: _IN_PLACE,
    Reason.UNREADABLE: _REFUSED,
    Reason.RECONCILE_ERROR: (ConditionType.STALLED,),
}
"""The conditions that can have each reason."""


class EventReason(StrEnum):
    """Reasons of the events on an InitPipeline."""

    RUN_STARTED = "RunStarted"
    """A run started. The note names its trigger and cause."""
    STEP_FAILED = "StepFailed"
    """An init container failed before the run was initialized. The operator counts further failures
    of the same init container in the same run. A failure updates the event if the count has
    doubled, or if the last update is half an hour old."""
    RUN_INITIALIZED = "RunInitialized"
    """All steps of the run have completed."""
    RUN_FAILED = "RunFailed"
    """The run failed. If another run follows, RunStarted is posted, otherwise GivenUp."""
    POD_LOST = "PodLost"
    """The run's Pod was deleted, or the cluster terminated it: drain, node pressure, preemption,
    shutdown or loss of the node, rejection by the kubelet. Or its ownerReferences were changed."""
    FAILED_CREATE = "FailedCreate"
    """The API server refuses the run's Pod, the request to create it fails again and again, or its
    name is taken. Posted once per message."""
    FAILED_DELETE = "FailedDelete"
    """The request to delete the Pod or the InitPipeline fails again and again. Posted once for
    each deletion."""
    GIVEN_UP = "GivenUp"
    """The run failed or was lost, and no other run follows unless a user starts one."""
    STATUS_NOT_WRITTEN = "StatusNotWritten"
    """The API server rejects the status. The note contains its message. Usually the InitPipeline is
    larger than etcd can store: make the template smaller. An admission webhook may also have denied
    the request or failed. No run starts until the status is written."""
    STATUS_FIELDS_DROPPED = "StatusFieldsDropped"
    """The API server stored the status without fields that the operator had set, and the note lists
    them. Usually another tool has changed the CRD: apply the CRD of the operator's version."""


class Trigger(OpenEnum):
    """Why a run started. PodRestarted and RestartedInPlace are runs that the kubelet starts in the
    existing Pod."""

    CREATED = "Created"
    """The InitPipeline was created."""
    SPEC_CHANGED = "SpecChanged"
    """The template was changed, and the API server would store a different Pod for it."""
    REQUESTED = "Requested"
    """A user set the annotation initpipeline.dev/rerun to a value that is not in
    status.lastRerunToken, status.run.token or status.history[].token."""
    RESUMED = "Resumed"
    """spec.suspend was changed to false. Also the first run of an InitPipeline that was created
    suspended."""
    CONTAINER_RESTARTED = "ContainerRestarted"
    """An app container restarted after the run was initialized. A restart by an in-place resize
    does not count."""
    POD_LOST = "PodLost"
    """The Pod was deleted, the cluster terminated it, or its ownerReferences were changed."""
    RETRY = "Retry"
    """A run failed, and backoffLimit allows a retry or a user raised the limit that it exceeded."""
    POD_RESTARTED = "PodRestarted"
    """The kubelet re-created the sandbox of the Pod."""
    RESTARTED_IN_PLACE = "RestartedInPlace"
    """The kubelet restarted all containers of the Pod in place (KEP-5532)."""


class Result(OpenEnum):
    """How a run ended."""

    INITIALIZED = "Initialized"
    """All steps completed. The trigger of the next run shows what ended this one."""
    SUCCEEDED = "Succeeded"
    """All containers of the Pod terminated successfully."""
    FAILED = "Failed"
    """A container failed and is not restarted, or a limit of the InitPipeline or of the Pod's own
    spec was exceeded."""
    LOST = "Lost"
    """The Pod was deleted, the cluster terminated it, or its ownerReferences were changed, before
    or after initialization."""
    SUPERSEDED = "Superseded"
    """Before the run was initialized, the template changed, a user requested a run, the
    InitPipeline was suspended, or in-place restarts came too often."""
    UNKNOWN = "Unknown"
    """The kubelet started another run in the same Pod before the operator observed this one as
    initialized, for example because the sandbox was re-created during a step. The API does not
    report how this run ended."""


FAULTS: Final = frozenset({Result.FAILED, Result.LOST})
"""Results of runs that ended because something failed or the Pod was lost."""


class RerunPolicy(OpenEnum):
    """Which events cause the operator to run all init containers again. The policy does not apply
    to retries, to runs that the kubelet starts, or to runs that a user starts by a request, by a
    change of the template, or by resuming."""

    ON_RESTART = "OnRestart"
    """An app container restarts, or the Pod is lost. Restarts of sidecars do not count."""
    ON_POD_LOSS = "OnPodLoss"
    """The Pod is lost."""
    NEVER = "Never"
    """None of these events. If the Pod is lost, the InitPipeline becomes Stalled."""


class LogTails(OpenEnum):
    """Whether the operator copies the termination messages of containers to status and Events. A
    termination message is often the end of the container's log."""

    RECORD = "Record"
    """The last 1 KiB of the message of a container that failed. Init containers without a
    terminationMessagePolicy get FallbackToLogsOnError."""
    OMIT = "Omit"
    """The text "log tails are switched off" in place of each message that a container wrote. Exit
    codes and reasons are recorded. The operator does not set a terminationMessagePolicy."""


class RerunStrategy(OpenEnum):
    """How all init containers are run again after an app container restarts."""

    RECREATE = "Recreate"
    """The operator replaces the Pod."""
    IN_PLACE = "InPlace"
    """The kubelet restarts all containers in the same Pod (KEP-5532). Requires Kubernetes 1.36.
    Containers get two seconds to terminate, and preStop hooks do not run. If the cluster does not
    support it, or if a restart follows another within ten minutes, the operator replaces the
    Pod."""
