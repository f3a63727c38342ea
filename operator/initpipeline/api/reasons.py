"""Every word that automation may match on: condition types, reasons, triggers, results.

A person who reads nothing but the REASON column knows from it what to look at.
"""

from enum import StrEnum


class ConditionType(StrEnum):
    """Types of ``status.conditions``; Reconciling and Stalled as kstatus defines them."""

    INITIALIZED = "Initialized"
    """All init containers of the current run have succeeded (a sidecar: has started)."""
    READY = "Ready"
    """The Pod is Ready, or it has Succeeded."""
    RECONCILING = "Reconciling"
    """A run is on its way, or waits for something that may change by itself; absent otherwise."""
    STALLED = "Stalled"
    """Given up: needs a person; absent otherwise."""


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
    """The current step failed."""
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
    """An app container failed."""
    POD_READY = "PodReady"
    """The Pod is Ready."""
    POD_SUCCEEDED = "PodSucceeded"
    """All app containers of the Pod ended well."""
    POD_FAILED = "PodFailed"
    """The Pod failed, and no container of it tells why."""
    POD_LOST = "PodLost"
    """The run's Pod was deleted, evicted, preempted, or its node is gone."""
    POD_TERMINATING = "PodTerminating"
    """A Pod of this name is being deleted; the next run's Pod can only follow it."""
    INVALID_TEMPLATE = "InvalidTemplate"
    """The API server refuses the Pod as invalid; the message is the server's."""
    POD_FORBIDDEN = "PodForbidden"
    """Policy, Pod Security, RBAC or a webhook refuses the Pod; the message is the server's."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A ResourceQuota has no room for the Pod; the message is the server's."""
    NAME_CONFLICT = "NameConflict"
    """A Pod of this name exists and belongs to somebody else."""
    RERUN_BACK_OFF = "RerunBackOff"
    """The next run waits until nextRunTime, since runs of this pipeline keep being caused."""
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    """A run failed, and no further one is allowed."""


class Trigger(StrEnum):
    """Why a run started. The last two are runs of the kubelet, in the Pod of the run before."""

    CREATED = "Created"
    SPEC_CHANGED = "SpecChanged"
    REQUESTED = "Requested"
    CONTAINER_RESTARTED = "ContainerRestarted"
    POD_LOST = "PodLost"
    POD_RESTARTED = "PodRestarted"
    RESTARTED_IN_PLACE = "RestartedInPlace"


class Result(StrEnum):
    """How a run ended."""

    INITIALIZED = "Initialized"
    """All init containers succeeded; ended by what the next run's trigger names."""
    SUCCEEDED = "Succeeded"
    """The Pod's containers all ended well."""
    FAILED = "Failed"
    """A container failed for good."""
    LOST = "Lost"
    """The Pod was lost, whether or not it had been initialized (initializedTime tells)."""
    SUPERSEDED = "Superseded"
    """A changed template or a request came before it was initialized."""
    UNKNOWN = "Unknown"
    """It ended before it was seen initialized, and the API does not tell how."""
