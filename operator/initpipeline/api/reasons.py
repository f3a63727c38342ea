"""Every word that automation may match on: condition types, reasons, triggers, results.

A person who reads nothing but the REASON column knows from it what to look at.
"""

from enum import StrEnum
from typing import Final


class ConditionType(StrEnum):
    """Types of ``status.conditions``; Reconciling and Stalled as kstatus defines them."""

    INITIALIZED = "Initialized"
    """All init containers of the current run have succeeded (a sidecar: has started)."""
    READY = "Ready"
    """The Pod is Ready, or it has Succeeded."""
    RECONCILING = "Reconciling"
    """A run is on its way, or waits for something that may change by itself; absent otherwise."""
    STALLED = "Stalled"
    """A person is needed: the pipeline is given up or makes no progress. The operator may still
    retry. Absent otherwise."""
    SUSPENDED = "Suspended"
    """spec.suspend took effect; absent otherwise."""
    RERUN_IN_PLACE = "RerunInPlace"
    """False where rerunStrategy asks for InPlace and the Pod cannot do it; absent otherwise."""


class Reason(StrEnum):
    """Reasons of conditions."""

    POD_PENDING = "PodPending"
    """The Pod is about to be created, or has been and no node has taken it yet."""
    POD_UNSCHEDULABLE = "PodUnschedulable"
    """No node fits; the message is the scheduler's."""
    STEP_PENDING = "StepPending"
    """The current step has not started: volumes, network or its image are being made ready."""
    STEP_RUNNING = "StepRunning"
    """The current step runs."""
    STEP_FAILED = "StepFailed"
    """The current step failed, or could not be started, mostly for a command that its image
    does not have."""
    STEP_BACK_OFF = "StepBackOff"
    """The current step failed, and the kubelet waits before it starts it again."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """An image cannot be pulled; the message names it and why."""
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    """A container cannot be created, mostly for a missing ConfigMap, Secret or key."""
    INITIALIZED = "Initialized"
    """All init containers of the current run have succeeded."""
    CONTAINERS_NOT_READY = "ContainersNotReady"
    """Initialized, but app containers are not ready yet."""
    CONTAINER_FAILED = "ContainerFailed"
    """An app container failed, or else a sidecar."""
    POD_READY = "PodReady"
    """The Pod is Ready."""
    POD_SUCCEEDED = "PodSucceeded"
    """All app containers of the Pod ended well."""
    POD_FAILED = "PodFailed"
    """The Pod failed, and no container of it reports why."""
    POD_EVICTED = "PodEvicted"
    """The kubelet evicted the Pod because it exceeded a storage limit of its own spec."""
    POD_DEADLINE_EXCEEDED = "PodDeadlineExceeded"
    """The Pod ran longer than the activeDeadlineSeconds of its own spec."""
    NODE_NOT_READY = "NodeNotReady"
    """The node has stopped reporting, so the node lifecycle controller set the Pod's Ready to
    False."""
    POD_LOST = "PodLost"
    """The run's Pod was deleted, or the cluster ended it: drain, node pressure, preemption,
    shutdown or loss of the node, rejection by the kubelet."""
    POD_TERMINATING = "PodTerminating"
    """A Pod of this name is being deleted; the next run's Pod can only follow it."""
    INVALID_TEMPLATE = "InvalidTemplate"
    """The API server refuses the Pod as invalid; the message is the server's. The cause is the
    template, or what a LimitRange, a webhook or a policy makes of it. Or the spec breaks a rule of
    the admission policy, which is not installed."""
    POD_FORBIDDEN = "PodForbidden"
    """Policy, Pod Security, RBAC or a webhook refuses the Pod; the message is the server's."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A ResourceQuota has no room for the Pod; the message is the server's."""
    QUOTA_REQUIRES_RESOURCES = "QuotaRequiresResources"
    """A ResourceQuota requires requests or limits that containers of the Pod do not have; the
    message is the API server's and names them."""
    NAME_CONFLICT = "NameConflict"
    """A Pod of this name exists and belongs to somebody else."""
    RERUN_BACK_OFF = "RerunBackOff"
    """The next run waits until nextRunTime, since runs of this pipeline keep being caused."""
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    """A run failed, and no further one is allowed."""
    STEP_TIMED_OUT = "StepTimedOut"
    """One attempt of the current step took longer than its timeoutSeconds."""
    RESTART_LIMIT_EXCEEDED = "RestartLimitExceeded"
    """The current step failed more often than its maxRestarts allows."""
    INIT_DEADLINE_EXCEEDED = "InitDeadlineExceeded"
    """The run was not initialized within initDeadlineSeconds."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: there is no Pod, and no run starts."""
    IN_PLACE_UNSUPPORTED = "InPlaceUnsupported"
    """The cluster or the node does not know RestartAllContainers (Kubernetes 1.36)."""
    IN_PLACE_TOO_OFTEN = "InPlaceTooOften"
    """Restarts in place came so fast that the Pod is replaced instead, with back-off."""
    UNREADABLE = "Unreadable"
    """The InitPipeline holds a value that this version of the operator cannot read; the message
    names the field. Nothing is done until it is corrected."""
    RECONCILE_ERROR = "ReconcileError"
    """The operator failed on this InitPipeline, which is a bug in the operator. It retries after
    growing delays; Initialized and Ready stay as they were last observed."""


class EventReason(StrEnum):
    """Reasons of the events on an InitPipeline."""

    RUN_STARTED = "RunStarted"
    """A run started; the note has its trigger, as in status."""
    STEP_FAILED = "StepFailed"
    """An init container failed before the run was initialized. Further failures of it in the same
    run are a series of this event."""
    RUN_INITIALIZED = "RunInitialized"
    """All init containers of the run have succeeded."""
    RUN_FAILED = "RunFailed"
    """The run failed; whether another follows is told by RunStarted or GivenUp."""
    POD_LOST = "PodLost"
    """The run's Pod was deleted, or the cluster ended it: drain, node pressure, preemption,
    shutdown or loss of the node, rejection by the kubelet."""
    FAILED_CREATE = "FailedCreate"
    """The run's Pod cannot be created: the API server refuses it, or its name is taken. Posted once
    per message."""
    GIVEN_UP = "GivenUp"
    """The run failed or was lost, and no other follows: needs a person."""
    STATUS_NOT_WRITTEN = "StatusNotWritten"
    """The API server does not accept the status: the InitPipeline would be too large, or the CRD is
    of another version. No run starts until the status is written."""


class Trigger(StrEnum):
    """Why a run started. The last two are runs of the kubelet, in the Pod of the run before."""

    CREATED = "Created"
    SPEC_CHANGED = "SpecChanged"
    REQUESTED = "Requested"
    RESUMED = "Resumed"
    CONTAINER_RESTARTED = "ContainerRestarted"
    POD_LOST = "PodLost"
    RETRY = "Retry"
    POD_RESTARTED = "PodRestarted"
    RESTARTED_IN_PLACE = "RestartedInPlace"


BY_KUBELET: Final = frozenset({Trigger.POD_RESTARTED, Trigger.RESTARTED_IN_PLACE})
"""Triggers of runs of the kubelet's, in a Pod that was there before."""


class Result(StrEnum):
    """How a run ended."""

    INITIALIZED = "Initialized"
    """All init containers succeeded; ended by what the next run's trigger names."""
    SUCCEEDED = "Succeeded"
    """The Pod's containers all ended well."""
    FAILED = "Failed"
    """A container failed for good, or a limit was exceeded."""
    LOST = "Lost"
    """The Pod was lost, whether or not it had been initialized (initializedTime tells)."""
    SUPERSEDED = "Superseded"
    """Before it was initialized came a changed template, a request, suspend, or a new Pod because
    restarts in place came too often."""
    UNKNOWN = "Unknown"
    """It ended before it was seen initialized, and the API does not tell how."""


class RerunPolicy(StrEnum):
    """Which restarts re-run every init container. What the kubelet re-runs by itself, a request and
    a changed template do so under each."""

    ON_RESTART = "OnRestart"
    """The restart of an app container, and the loss of the Pod."""
    ON_POD_LOSS = "OnPodLoss"
    """The loss of the Pod alone."""
    NEVER = "Never"
    """Neither."""


class RerunStrategy(StrEnum):
    """How the restart of an app container is answered."""

    RECREATE = "Recreate"
    """With a new Pod."""
    IN_PLACE = "InPlace"
    """By the kubelet, which restarts all containers in the same Pod (KEP-5532)."""
