"""The InitPipeline resource, as values. The CRD's schema is generated from these models.

Nothing here is ever changed in place: a new status is a new value. What a Pod template may hold is
the API server's business, so the template, like the mirrored container statuses, stays the plain
data that the API gave.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from initpipeline.api.names import MAX_IDENTIFIER_LENGTH, MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import (
    ConditionType,
    RerunPolicy,
    RerunStrategy,
    Result,
    Trigger,
)
from initpipeline.api.times import parse_time, within_calendar


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC, to the second, as metav1.Time is written."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(time: datetime) -> str:
    """The same to the microsecond, as metav1.MicroTime is written."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(value: object) -> datetime:
    time = within_calendar(value) if isinstance(value, datetime) else parse_time(value)
    if time is None:
        raise ValueError("must be a time as in RFC 3339")
    return time


INT32_MAX: Final = 2**31 - 1
Time = Annotated[datetime, BeforeValidator(_time), PlainSerializer(format_time, return_type=str)]
Count = Annotated[int, Field(ge=0, le=INT32_MAX)]
Generation = Annotated[int, Field(ge=0)]
Int32 = Annotated[int, Field(ge=-INT32_MAX - 1, le=INT32_MAX)]
Limit = Annotated[int, Field(ge=0, le=INT32_MAX)]
Seconds = Annotated[int, Field(ge=1, le=INT32_MAX)]
"""The limit of a duration. 0 is not valid, as for a Pod's activeDeadlineSeconds."""
Identifier = Annotated[str, Field(max_length=MAX_IDENTIFIER_LENGTH)]
Message = Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)]


class ApiModel(BaseModel):
    """camelCase in the API, snake_case here; unknown fields are left to the API server."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    def to_api(self) -> dict[str, Any]:
        """As the API takes it: JSON types, camelCase, nothing that is unset, empty or zero unless
        the field is one that is always there."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Condition(ApiModel):
    """One aspect of the pipeline's state, as metav1.Condition."""

    type: Identifier = Field(
        description="Initialized, Ready, Reconciling, Stalled, Suspended or RerunInPlace."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    observed_generation: Generation = Field(
        description="The metadata.generation that the condition speaks of."
    )
    last_transition_time: Time = Field(description="When the status last changed.")
    reason: Identifier = Field(description="Why, in one CamelCase word.")
    message: Message = Field(description="Why, for a person. At most 1 KiB.")


class Cause(ApiModel):
    """What caused a run: the end of a container that was restarted, or a changed template."""

    container: Identifier | None = Field(
        None, description="Name of the container that was restarted."
    )
    exit_code: Int32 | None = Field(None, description="Its exit code.")
    signal: Int32 | None = Field(None, description="The signal that ended it, if any.")
    reason: Identifier | None = Field(None, description="The kubelet's reason, such as OOMKilled.")
    message: Message | None = Field(None, description="Its termination message. At most 1 KiB.")
    changed_paths: tuple[Identifier, ...] = Field(
        (),
        description="The first three fields of spec.template that changed, such as "
        "spec.initContainers[1].image. Empty if the previous template is not known.",
    )
    changed_path_count: Count = Field(0, description="How many fields of spec.template changed.")


class FailedStep(ApiModel):
    """The evidence of a failure: the init container at which a run failed."""

    name: Identifier = Field(description="Name of the init container.")
    exit_code: Int32 | None = Field(None, description="Its exit code.")
    signal: Int32 | None = Field(None, description="The signal that ended it, if any.")
    reason: Identifier | None = Field(None, description="The kubelet's reason, such as OOMKilled.")
    message: Message | None = Field(
        None, description="Its termination message or the end of its log. At most 1 KiB."
    )
    restart_count: Count = Field(description="How often the kubelet restarted it in this Pod.")


class Exceeded(ApiModel):
    """The limit that ended a run. Raising it lets another run start."""

    limit: Identifier = Field(
        description="Which: initDeadlineSeconds, or timeoutSeconds or maxRestarts of the "
        "step's entry in initPolicies."
    )
    step: Identifier = Field(description="The init container that the run had come to.")
    value: Count = Field(description="What the limit was.")
    termination_message: Message | None = Field(
        None,
        description="What the step left when it was ended for this: its termination message or "
        "the end of its log. At most 1 KiB.",
    )


class RunningStep(ApiModel):
    """The attempt of an init container that runs, for its timeoutSeconds."""

    name: Identifier = Field(description="Name of the init container.")
    container_id: Identifier = Field(
        alias="containerID", description="The runtime's ID of the attempt."
    )
    first_seen_time: Time = Field(description="When it was first seen running.")


class CompletedInitContainer(ApiModel):
    """An init container that has succeeded in the current run, and the container that did."""

    name: Identifier = Field(description="Name of the init container.")
    container_id: Identifier = Field(alias="containerID", description="The runtime's ID of it.")


class RestartBaseline(ApiModel):
    """What a container's restart count was when it first started in the current run."""

    name: Identifier = Field(description="Name of the container.")
    restart_count: Count = Field(description="A higher count is a restart within the run.")
    resources: dict[str, str] | None = Field(
        None,
        description="Requests and limits of the container whose resizePolicy is RestartContainer. "
        "If they have changed, the restart was part of a resize in place.",
    )


class RunFacts(ApiModel):
    """What the current run and its later entry in history both tell."""

    number: Annotated[int, Field(ge=1, le=INT32_MAX)] = Field(
        description="1, 2, 3 ... No number is ever used twice."
    )
    trigger: Trigger = Field(description="Why the run started.")
    token: Identifier | None = Field(
        None, description="The value of the annotation initpipeline.dev/rerun that it answers."
    )
    cause: Cause | None = Field(
        None,
        description="What caused the run: how the restarted container ended, or which fields of "
        "spec.template changed.",
    )
    pod_uid: Identifier | None = Field(
        None, alias="podUID", description="UID of the Pod. Unset until the Pod was seen."
    )
    start_time: Time = Field(
        description="When the run was decided; for a run of the kubelet's, when it was first seen."
    )
    initialized_time: Time | None = Field(
        None, description="When the last init container succeeded, by the kubelet's clock."
    )
    completion_time: Time | None = Field(None, description="When the run was seen to have ended.")
    result: Result | None = Field(None, description="How the run ended; unset while it goes on.")
    reason: Identifier | None = Field(
        None,
        description="Why it ended or is about to end, in one CamelCase word, if it failed or was "
        "lost; why it was not initialized, if it was superseded.",
    )
    message: Message | None = Field(
        None,
        description="The reason in words, for a person. At most 1 KiB.",
    )
    exceeded: Exceeded | None = Field(None, description="The limit that ended the run, if any.")


class Run(RunFacts):
    """The current run, and what tells the next restart from this one."""

    completed_init_containers: tuple[CompletedInitContainer, ...] = Field(
        (), description="The containers that have succeeded in this run."
    )
    stale_container_ids: tuple[Identifier, ...] = Field(
        (),
        alias="staleContainerIDs",
        description="IDs of containers of earlier runs in the same Pod. The kubelet reports each "
        "until it has run again.",
    )
    restart_baselines: tuple[RestartBaseline, ...] = Field(
        (),
        description="Restart counts of the app containers as of this run's initialization. Kept "
        "under rerunPolicy OnRestart alone.",
    )
    init_restart_baselines: tuple[RestartBaseline, ...] = Field(
        (),
        description="Restart counts of the init containers as of the beginning of this run, where "
        "it is the kubelet's.",
    )
    running_step: RunningStep | None = Field(
        None, description="The attempt that runs, and since when, for its timeoutSeconds."
    )
    scheduling_gated: bool = Field(
        False, description="True if the Pod was observed behind a scheduling gate."
    )
    ungated_time: Time | None = Field(
        None,
        description="When the Pod was first observed without its former scheduling gates. "
        "initDeadlineSeconds counts from then.",
    )
    in_place_cause: Cause | None = Field(
        None,
        description="What the app container died of whose end restarts all containers in place: "
        "the cause of the run that comes next.",
    )
    last_in_place_time: Time | None = Field(
        None, description="When the last run in place before this one started."
    )


class RunRecord(RunFacts):
    """A run that has ended."""

    result: Result = Field(description="How it ended.")
    failed_step: FailedStep | None = Field(
        None, description="The init container that had failed, if any."
    )


class EffectiveResources(ApiModel):
    """What the scheduler and quota count the Pod as: the most that it needs at any one time."""

    requests: dict[str, str] | None = Field(
        None, description="Requests, a quantity each, by name of the resource."
    )
    limits: dict[str, str] | None = Field(
        None, description="Limits, a quantity each, by name of the resource."
    )


NOT_OBSERVED = -1
"""The generation that is observed before the first status is written. Without it kstatus takes an
object that has no status yet for one that needs none, and says Current."""


class InitPipelineStatus(ApiModel):
    """The most recently observed state. Written by the operator alone."""

    observed_generation: int | None = Field(
        None,
        ge=NOT_OBSERVED,
        description="The metadata.generation that this status speaks of; -1 before the first.",
    )
    conditions: tuple[Condition, ...] = Field(
        (), description="Initialized, Ready, Reconciling, Stalled, Suspended, RerunInPlace."
    )
    pod_name: Identifier | None = Field(None, description="Name of the Pod: the pipeline's own.")
    pod_uid: Identifier | None = Field(
        None, alias="podUID", description="UID of the Pod whose state is shown."
    )
    node_name: Identifier | None = Field(None, description="Node of the Pod whose state is shown.")
    run: Run | None = Field(None, description="The current run: one pass through all steps.")
    init_progress: Identifier | None = Field(
        None, description="How many init containers are done, of how many: 2/5."
    )
    current_step: Identifier | None = Field(
        None, description="The init container that has yet to succeed and is next, if any."
    )
    init_container_statuses: tuple[dict[str, Any], ...] = Field(
        (),
        description="The kubelet's own words about the init containers, verbatim, in the order "
        "of the Pod's spec.",
    )
    omitted: Message | None = Field(
        None,
        description="The fields that this status leaves out, because the InitPipeline would be "
        "larger than the cluster can store.",
    )
    history: tuple[RunRecord, ...] = Field((), description="Runs that have ended, newest first.")
    failed_runs: Count = Field(
        0, description="Failed runs since a person last started one; backoffLimit is compared."
    )
    rerun_count: Count = Field(
        0, description="Runs in a row that a restart, a loss of the Pod or a failure caused."
    )
    next_run_time: Time | None = Field(
        None, description="Before this time no run starts but one that a person asks for."
    )
    effective_resources: EffectiveResources | None = Field(
        None, description="What the scheduler and quota count the Pod as."
    )
    last_rerun_token: Identifier | None = Field(
        None, description="The newest rerun token that was answered. It never acts again."
    )
    template_hash: Identifier | None = Field(
        None,
        description="Hash of the template of the current run. Two templates have the same hash if "
        "the API server would store the same Pod for both.",
    )

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of this type, or None where it is absent."""
        return next((c for c in self.conditions if c.type == type_), None)


class InitPolicy(ApiModel):
    """Limits of one init container."""

    name: Identifier = Field(
        description="Name of an init container that is not restartPolicy Always."
    )
    timeout_seconds: Seconds | None = Field(
        None,
        description="How long one attempt may take, from when it was first seen running. After "
        "it the run has failed.",
    )
    max_restarts: Limit | None = Field(
        None, description="How often it may be restarted in a run. After it the run has failed."
    )


class Policies(ApiModel):
    """When the Pod's init containers run again, and when a run has failed."""

    rerun_policy: RerunPolicy = Field(
        RerunPolicy.ON_RESTART,
        description="OnRestart: the restart of an app container (not a sidecar) or the loss of "
        "the Pod re-runs every init container. OnPodLoss: only the loss of the Pod does. Never: "
        "neither. What the kubelet re-runs by itself, a request and a changed template work "
        "under each. Restarts count from when it was set.",
    )
    rerun_strategy: RerunStrategy = Field(
        RerunStrategy.RECREATE,
        description="How the restart of an app container is answered. Recreate: the Pod is "
        "replaced. InPlace (Kubernetes 1.36): the kubelet restarts all containers in the same Pod, "
        "with two seconds of grace and no preStop; the Pod is replaced where that is not supported "
        "or comes again within ten minutes. Takes effect with the next Pod.",
    )
    backoff_limit: Limit = Field(
        0,
        description="How many failed runs are followed by another with a new Pod before the "
        "pipeline is given up. A lost Pod is not a failed run.",
    )
    init_deadline_seconds: Seconds | None = Field(
        None,
        description="How long a run may take to be initialized, from the creation of its Pod; "
        "scheduling and pulling of images included. A run of the kubelet's counts from when it "
        "was first seen.",
    )
    init_policies: tuple[InitPolicy, ...] = Field(
        (), description="Limits of single init containers, by name."
    )
    suspend: bool = Field(
        False, description="true: the Pod is deleted and no run starts. false again: a new run."
    )
    run_history_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        10, description="How many runs that have ended are kept in status.history."
    )
    ttl_seconds_after_finished: Limit | None = Field(
        None,
        description="The InitPipeline is deleted this long after its Pod succeeded or it was "
        "given up. Not for a pipeline kept in git, which would bring it back.",
    )

    def of_step(self, name: str) -> InitPolicy:
        """The limits of this init container; none, where none are set."""
        found = (policy for policy in self.init_policies if policy.name == name)
        return next(found, InitPolicy(name=name))


class InitPipelineSpec(Policies):
    """The desired state: a Pod whose init containers are the pipeline."""

    template: dict[str, Any] = Field(
        description="The Pod, as a core/v1 PodTemplateSpec. At least one init container that "
        "runs to completion."
    )


class InitPipeline(ApiModel):
    """A Pod whose init containers run in order, again whenever the Pod restarts, with history."""

    spec: InitPipelineSpec
    status: InitPipelineStatus = InitPipelineStatus()
