"""The InitPipeline resource as typed, immutable values. The CRD's schema is generated from them.

Descriptions of fields and docstrings of models are the text of ``kubectl explain`` and of the
tables in docs/reference.md. The template and the mirrored container statuses stay the JSON that the
API server returned, because core/v1 defines what they may hold.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from initpipeline.api.names import MAX_IDENTIFIER_LENGTH, MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import (
    ConditionType,
    LogTails,
    RerunPolicy,
    RerunStrategy,
    Result,
    Trigger,
)
from initpipeline.api.times import parse_time, within_calendar


@lru_cache(maxsize=256)  # Each write of an object repeats its times.
def format_time(time: datetime) -> str:
    """Returns the time in the format of metav1.Time: RFC 3339, in UTC, in whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(time: datetime) -> str:
    """Returns the time in the format of metav1.MicroTime: RFC 3339, in UTC, in microseconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(value: object) -> datetime:
    time = within_calendar(value) if isinstance(value, datetime) else parse_time(value)
    if time is None:
        raise ValueError("must be a time as in RFC 3339")
    return time


INT32_MAX: Final = 2**31 - 1
Time = Annotated[datetime, BeforeValidator(_time), PlainSerializer(format_time, return_type=str)]
NonNegativeInt32 = Annotated[int, Field(ge=0, le=INT32_MAX)]
Generation = Annotated[int, Field(ge=0)]
Int32 = Annotated[int, Field(ge=-INT32_MAX - 1, le=INT32_MAX)]
TimeoutSeconds = Annotated[int, Field(ge=1, le=INT32_MAX)]
"""A timeout in seconds. At least 1, like a Pod's activeDeadlineSeconds."""
Identifier = Annotated[str, Field(max_length=MAX_IDENTIFIER_LENGTH)]
Message = Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)]


class ApiModel(BaseModel):
    """Base of all models: camelCase in JSON, snake_case in Python. Unknown fields are ignored,
    except in status (StatusModel)."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    def to_api(self) -> dict[str, Any]:
        """Returns the JSON object that the API server stores. Fields at their default are left
        out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class StatusModel(ApiModel):
    """Base of all objects in status. Unknown fields are kept: a newer version has written them.

    The CRD keeps them as well, so neither an older operator nor an older CRD loses what a newer
    operator recorded.
    """

    model_config = ConfigDict(extra="allow")


class Condition(StatusModel):
    """One aspect of the InitPipeline's state, with the fields and limits of metav1.Condition, so
    that other controllers can add conditions of their own."""

    type: Annotated[str, Field(max_length=316)] = Field(
        description="Type of the condition. The operator sets Initialized, Ready, Reconciling, "
        "Stalled, Suspended and InPlaceUnavailable, and keeps all others."
    )
    status: str = Field(description="Status of the condition: True, False or Unknown.")
    observed_generation: Generation | None = Field(
        None, description="The metadata.generation that the condition is based on."
    )
    last_transition_time: Time = Field(description="When the status last changed.")
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Machine-readable reason for the status, in CamelCase."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(
        description="Human-readable explanation of the status. The operator's messages have at "
        "most 1 KiB."
    )


class Cause(StatusModel):
    """What caused a run: the termination of a container that restarted, or a changed template."""

    container: Identifier | None = Field(None, description="Name of the container that restarted.")
    exit_code: Int32 | None = Field(None, description="Exit code of the container.")
    signal: Int32 | None = Field(
        None, description="Number of the signal that terminated the container, if any."
    )
    reason: Identifier | None = Field(
        None, description="The kubelet's reason for the termination, such as OOMKilled."
    )
    message: Message | None = Field(
        None,
        description="Termination message of the container: the last 1 KiB of it.",
    )
    changed_paths: tuple[Identifier, ...] = Field(
        (),
        description="The first three fields that changed, as paths within spec.template, such as "
        "spec.initContainers[1].image. If the previous template is not known, the run has no "
        "cause.",
    )
    changed_path_count: NonNegativeInt32 = Field(
        0, description="Number of fields of spec.template that changed."
    )


class FailedStep(StatusModel):
    """The init container at which a run failed, and how its last attempt terminated."""

    name: Identifier = Field(description="Name of the init container.")
    exit_code: Int32 | None = Field(None, description="Exit code of the init container.")
    signal: Int32 | None = Field(
        None, description="Number of the signal that terminated the init container, if any."
    )
    reason: Identifier | None = Field(
        None,
        description="The kubelet's reason for the termination, such as OOMKilled, or the reason of "
        "the limit that the run exceeded.",
    )
    message: Message | None = Field(
        None,
        description="Termination message of the init container, or the end of its log: the last "
        "1 KiB of it.",
    )
    restart_count: NonNegativeInt32 = Field(
        description="Number of times that the kubelet restarted the init container in this Pod."
    )


class Exceeded(StatusModel):
    """The limit that a run exceeded. The run has failed. Raising the limit starts another run."""

    limit: Identifier = Field(
        description="The field that was exceeded: initDeadlineSeconds, or timeoutSeconds or "
        "maxRestarts of the step's entry in initPolicies."
    )
    step: Identifier = Field(
        description="The init container that was current when the limit was exceeded."
    )
    value: NonNegativeInt32 = Field(
        description="Value of the limit at that time. If a user sets a higher value, another run "
        "starts."
    )
    termination_message: Message | None = Field(
        None,
        description="Termination message of the init container when it was stopped because of the "
        "limit, or the end of its log: the last 1 KiB of it.",
    )


class RunningStep(StatusModel):
    """The running attempt of the current init container."""

    name: Identifier = Field(description="Name of the init container.")
    container_id: Identifier = Field(
        alias="containerID", description="ID of the container that runs this attempt."
    )
    first_seen_time: Time = Field(
        description="When the operator first observed this attempt running. timeoutSeconds is "
        "counted from then."
    )


class CompletedInitContainer(StatusModel):
    """An init container that has succeeded in the current run."""

    name: Identifier = Field(description="Name of the init container.")
    container_id: Identifier = Field(
        alias="containerID", description="ID of the container that succeeded."
    )


class RestartBaseline(StatusModel):
    """The part of a container's restart count that does not count in the current run."""

    name: Identifier = Field(description="Name of the container.")
    restart_count: NonNegativeInt32 = Field(
        description="If the Pod's status has a higher count, the container has restarted within "
        "the run."
    )
    resources: dict[str, str] | None = Field(
        None,
        description="Requests and limits whose resizePolicy is RestartContainer. If they differ "
        "from the Pod's, the restart was part of an in-place resize.",
    )


class RunFacts(StatusModel):
    """The fields that the current run has in common with its later entry in history."""

    number: Annotated[int, Field(ge=1, le=INT32_MAX)] = Field(
        description="Number of the run: 1, 2, 3 ... A number is not reused as long as status "
        "exists."
    )
    trigger: Trigger = Field(
        description="Why the run started. The kubelet starts runs with the triggers PodRestarted "
        "and RestartedInPlace in the existing Pod. The operator starts all others with a new Pod."
    )
    token: Identifier | None = Field(
        None,
        description="Value of the annotation initpipeline.dev/rerun that requested this run, "
        "if any.",
    )
    cause: Cause | None = Field(
        None,
        description="What caused the run: how the container that restarted had terminated, or "
        "which fields of spec.template changed. Unset if neither applies.",
    )
    pod_uid: Identifier | None = Field(
        None,
        alias="podUID",
        description="UID of the run's Pod. Unset until the operator has observed the Pod.",
    )
    start_time: Time = Field(
        description="When the operator decided to start the run. For the first run, when its Pod "
        "was created. If the kubelet started the run, when the operator first observed it."
    )
    initialized_time: Time | None = Field(
        None,
        description="When the last init container succeeded, by the node's clock. If the kubelet "
        "reports no time: when the operator observed it. Unset if the run is not initialized.",
    )
    completion_time: Time | None = Field(
        None,
        description="When the operator observed that the run had ended. Unset while it is active.",
    )
    result: Result | None = Field(None, description="How the run ended. Unset while it is active.")
    reason: Identifier | None = Field(
        None,
        description="Machine-readable reason, in CamelCase: why the run failed or was lost, or why "
        "a superseded run was not initialized. If the cluster evicts the run's Pod, the operator "
        "sets the reason when the eviction begins, before the result.",
    )
    message: Message | None = Field(
        None,
        description="Human-readable explanation of the reason. At most 1 KiB.",
    )
    exceeded: Exceeded | None = Field(
        None, description="The limit that the run exceeded, if it failed because of one."
    )


class Run(RunFacts):
    """The current run, and what the operator records to recognize the next one."""

    completed_init_containers: tuple[CompletedInitContainer, ...] = Field(
        (),
        description="The init containers, without sidecars, that have succeeded in this run. If "
        "the container ID of one of them changes, the kubelet has started another run.",
    )
    stale_container_ids: tuple[Identifier, ...] = Field(
        (),
        alias="staleContainerIDs",
        description="IDs of containers of earlier runs in the same Pod. The kubelet reports each "
        "of them until it has created the next container of the same name.",
    )
    restart_baselines: tuple[RestartBaseline, ...] = Field(
        (),
        description="For each app container, the part of its restart count that does not count in "
        "this run. Set only if rerunPolicy is OnRestart.",
    )
    init_restart_baselines: tuple[RestartBaseline, ...] = Field(
        (),
        description="For each init container, the part of its restart count that does not count "
        "toward maxRestarts: restarts before this run, or because a sandbox or node was lost.",
    )
    running_step: RunningStep | None = Field(
        None, description="The running attempt of the current init container, if any."
    )
    scheduling_gated: bool = Field(
        False,
        description="Whether the Pod has had a scheduling gate other than the operator's.",
    )
    ungated_time: Time | None = Field(
        None,
        description="When the operator first observed the Pod without its scheduling gates. "
        "initDeadlineSeconds is counted from then.",
    )
    in_place_cause: Cause | None = Field(
        None,
        description="Termination of the container that made the kubelet restart all containers in "
        "place. It becomes the cause of the next run.",
    )
    last_in_place_time: Time | None = Field(
        None, description="Start of the last in-place re-run before this run."
    )


class RunRecord(RunFacts):
    """A run that has ended."""

    result: Result = Field(description="How the run ended.")
    failed_step: FailedStep | None = Field(
        None, description="The init container that failed in the run, if any."
    )


class EffectiveResources(StatusModel):
    """The resources that the scheduler and ResourceQuota count for the Pod: the most that it needs
    at any one time, init containers and sidecars included."""

    requests: dict[str, str] | None = Field(
        None, description="Effective requests: quantities by resource name."
    )
    limits: dict[str, str] | None = Field(
        None, description="Effective limits: quantities by resource name."
    )


NOT_OBSERVED = -1
"""The observedGeneration until the operator first writes status. Without it kstatus reports an
object without status as Current."""


class InitPipelineStatus(StatusModel):
    """Most recently observed state of the InitPipeline. Set by the operator, read-only for
    users."""

    observed_generation: int | None = Field(
        None,
        ge=NOT_OBSERVED,
        description="The metadata.generation that this status is based on. -1 until the operator "
        "first writes status.",
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Latest observations of the InitPipeline's state. Initialized and Ready are "
        "present once the operator has written status. Reconciling, Stalled, Suspended and "
        "InPlaceUnavailable are absent unless they are True.",
    )
    pod_name: Identifier | None = Field(
        None, description="Name of the Pod. It is the name of the InitPipeline."
    )
    pod_uid: Identifier | None = Field(
        None,
        alias="podUID",
        description="UID of the Pod that this status describes. Unset if the current run has no "
        "Pod yet.",
    )
    node_name: Identifier | None = Field(
        None, description="Node of the Pod that this status describes."
    )
    run: Run | None = Field(
        None,
        description="The current run: one pass of all init containers. If the run has ended, it "
        "stays here until the next one starts.",
    )
    init_progress: Identifier | None = Field(
        None,
        description="Number of init containers that have completed in the current run, out of "
        "their total number, such as 2/5. A sidecar has completed once it has started.",
    )
    current_step: Identifier | None = Field(
        None,
        description="The first init container that has not completed in the current run. Unset if "
        "all have.",
    )
    init_container_statuses: tuple[dict[str, Any], ...] = Field(
        (),
        description="Copy of the Pod's status.initContainerStatuses, in the order of the Pod's "
        "spec. An init container that the kubelet has not reported is waiting with the reason "
        "PodInitializing.",
    )
    omitted: Message | None = Field(
        None,
        description="The fields that the operator left out of this status because the InitPipeline "
        "would be too large to store.",
    )
    history: tuple[RunRecord, ...] = Field(
        (),
        description="Runs that have ended, newest first. spec.runHistoryLimit limits their number.",
    )
    failed_runs: NonNegativeInt32 = Field(
        0,
        description="Number of runs that failed since a user last started a run, or since the Pod "
        "was Ready for ten minutes. Compared with spec.backoffLimit.",
    )
    rerun_count: NonNegativeInt32 = Field(
        0,
        description="Number of consecutive runs that the operator started because of a restart, a "
        "lost Pod or a failure. The first one starts immediately, the next ones after 10s, 20s, "
        "40s ... 5m. Reset like failedRuns.",
    )
    next_run_time: Time | None = Field(
        None,
        description="Earliest start of the next run, if back-off or the rate limit of runs delays "
        "it. Unset if no run is delayed.",
    )
    effective_resources: EffectiveResources | None = None
    last_rerun_token: Identifier | None = Field(
        None,
        description="The last value of the annotation initpipeline.dev/rerun that led to a run. "
        "Neither this token nor one in status.run or status.history requests another run.",
    )
    template_hash: Identifier | None = Field(
        None,
        description="Hash of the template of the current run. Two templates have the same hash if "
        "the API server would store the same Pod for both.",
    )

    def condition(self, type_: ConditionType) -> Condition | None:
        """Returns the condition of this type. None: there is no such condition."""
        for condition in self.conditions:
            if condition.type == type_:
                return condition
        return None

    def to_api(self) -> dict[str, Any]:
        """Returns the JSON object that the API server stores. The mirror is JSON already, so it is
        not copied."""
        fields = self.model_dump(
            mode="json",
            by_alias=True,
            exclude_defaults=True,
            exclude={"init_container_statuses"},
        )
        if self.init_container_statuses:
            fields["initContainerStatuses"] = list(self.init_container_statuses)
        return fields


class InitPolicy(ApiModel):
    """Limits of one init container."""

    name: Identifier = Field(
        description="Name of the init container. A sidecar (restartPolicy Always) is not allowed."
    )
    timeout_seconds: TimeoutSeconds | None = Field(
        None,
        description="Duration in seconds that one attempt of the init container may take, from "
        "when the operator first observes it running. An attempt that takes longer fails the run, "
        "and the Pod is deleted. Must be at least 1. If unset, attempts are not limited.",
    )
    max_restarts: NonNegativeInt32 | None = Field(
        None,
        description="Number of times that the kubelet may restart the init container within a run. "
        "If it fails again after that many restarts, the run fails and the Pod is deleted. If 0, "
        "the first failure fails the run. The kubelet does not know this limit: it may start the "
        "init container once more before the operator has deleted the Pod. If unset, restarts are "
        "not limited. If the init container has a RestartAllContainers rule, the count continues "
        "in the runs that the rule starts.",
    )


class Policies(ApiModel):
    """The fields of spec other than the template. Each has a default."""

    rerun_policy: RerunPolicy = Field(
        RerunPolicy.ON_RESTART,
        description="Which events cause the operator to run all init containers again. The policy "
        "does not apply to retries, to runs that the kubelet starts, or to runs that a user "
        "starts by a request, by a change of the template, or by resuming. Restarts before the "
        "policy was set to OnRestart do not start a run. If rerunStrategy is InPlace, a change of "
        "the policy adds or removes the rules for restarts in place with the next Pod. Defaults to "
        "OnRestart.",
    )
    rerun_strategy: RerunStrategy = Field(
        RerunStrategy.RECREATE,
        description="How all init containers are run again after an app container restarts. A "
        "change takes effect with the next Pod. Defaults to Recreate.",
    )
    backoff_limit: NonNegativeInt32 = Field(
        0,
        description="Number of retries after failed runs before the InitPipeline becomes Stalled. "
        "Each retry gets a new Pod. A failing init container that the kubelet restarts in the same "
        "Pod does not fail the run. A run whose Pod was lost does not count. If the value is "
        "raised to status.failedRuns or more, a Stalled InitPipeline is retried. Defaults to 0.",
    )
    init_deadline_seconds: TimeoutSeconds | None = Field(
        None,
        description="Duration in seconds that a run may take to be initialized, from the creation "
        "of its Pod. Scheduling and image pulls count. The time during which the Pod has "
        "scheduling gates does not count. If the kubelet starts the run, the duration begins when "
        "the operator first observes the run. A run that takes longer fails, and its Pod is "
        "deleted. Must be at least 1. If unset, runs are not limited.",
    )
    init_policies: tuple[InitPolicy, ...] = Field(
        (),
        description="Limits of individual init containers, by name. An init container without an "
        "entry has no limits of its own.",
    )
    suspend: bool = Field(
        False,
        description="Whether the InitPipeline is suspended. If true, the operator deletes the Pod "
        "and starts no run. If changed back to false, a new run starts. An InitPipeline that is "
        "created suspended has its first run when it is resumed. Defaults to false.",
    )
    run_history_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        10,
        description="Number of ended runs to keep in status.history. The oldest are removed first. "
        "From 0 to 100. Defaults to 10.",
    )
    log_tails: LogTails = Field(
        LogTails.RECORD,
        description="Whether status and Events have the termination messages of containers, which "
        "are often the end of their logs. If a step may print secrets, set Omit. This also "
        "replaces the messages that status already has. A change starts no run, and the "
        "terminationMessagePolicy of the Pod changes with the next Pod. The operator's option "
        "--log-tails=omit takes precedence. Defaults to Record.",
    )
    ttl_seconds_after_finished: NonNegativeInt32 | None = Field(
        None,
        description="Time in seconds after which the operator deletes an InitPipeline that has "
        "finished: its Pod has succeeded, or no run follows a failed or lost one. The history is "
        "deleted with it. If 0, it is deleted immediately. If unset, it is not deleted. Do not set "
        "this for an InitPipeline that is synced from git, because the next sync would create it "
        "again.",
    )

    def of_step(self, name: str) -> InitPolicy:
        """Returns the limits of the init container with this name. They are unset if initPolicies
        has no entry for it."""
        entries = (policy for policy in self.init_policies if policy.name == name)
        return next(entries, InitPolicy(name=name))

    def has_time_limit(self, name: str) -> bool:
        """Returns whether timeoutSeconds or initDeadlineSeconds ends each attempt of the init
        container with this name."""
        limits = (self.of_step(name).timeout_seconds, self.init_deadline_seconds)
        return limits != (None, None)


class InitPipelineSpec(Policies):
    """Desired state of the InitPipeline: the template of its Pod, and when init containers run
    again. A change takes effect immediately, unless the field states otherwise."""

    template: dict[str, Any] = Field(
        description="Template of the Pod. At least one init container must run to completion: "
        "sidecars alone are not allowed. Labels, annotations and finalizers of its metadata are "
        "copied to the Pod. The Pod has the name of the InitPipeline. A change of the template "
        "starts a new run with a new Pod if the API server would store a different Pod."
    )


class InitPipeline(ApiModel):
    """InitPipeline describes a Pod whose init containers must run before each start of its app
    containers. The operator creates the Pod, and replaces it if an app container restarts or the
    Pod is lost (see spec.rerunPolicy). Its status has the progress and a history of runs."""

    spec: InitPipelineSpec
    status: InitPipelineStatus = InitPipelineStatus()
