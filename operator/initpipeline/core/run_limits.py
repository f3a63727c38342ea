"""The limits of a run: which apply, when the run exceeds each, and why it then fails.

Each limit that applies has a time ``at``, for which the pipeline is requeued. If the limit still
applies then, the run has exceeded it. For an exceeded maxRestarts, ``at`` is the start of the run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from initpipeline.api.models import Exceeded, Policies, Run, RunningStep
from initpipeline.api.reasons import Reason
from initpipeline.core import explanations, failures, pod_restarts
from initpipeline.core.containers import RESTART
from initpipeline.core.explanations import Explanation
from initpipeline.core.kubelet_reasons import LOST_ENDS
from initpipeline.core.observation import Observation
from initpipeline.core.pod_steps import Step

DEADLINE = "initDeadlineSeconds"
TIMEOUT = "timeoutSeconds"
MAX_RESTARTS = "maxRestarts"


@dataclass(frozen=True, slots=True)
class RunLimit:
    """A limit of the current run."""

    exceeded: Exceeded
    at: datetime
    """When the run exceeds the limit."""
    why: Explanation
    """Why the run fails when it exceeds the limit."""


def applicable(policies: Policies, run: Run, observation: Observation) -> tuple[RunLimit, ...]:
    """Returns the limits that still apply, earliest first. None apply once the run is initialized
    or its Pod is terminating."""
    current, steps = observation.current_step, observation.steps
    if run.initialized_time is not None or observation.pod.deleting or current is None:
        return ()
    title = explanations.step_title(current.container, current.position, len(steps))
    limits = [
        *_restarts(policies, run, current, title),
        *_timeout(policies, run, current, title),
        *_deadline(policies, run, observation, current),
    ]
    return tuple(sorted(limits, key=lambda limit: limit.at))


def raised(exceeded: Exceeded, policies: Policies) -> bool:
    """Returns whether a user has raised or removed the limit that ended a run."""
    if exceeded.limit == DEADLINE:
        value = policies.init_deadline_seconds
    elif exceeded.limit == TIMEOUT:
        value = policies.of_step(exceeded.step).timeout_seconds
    else:
        value = policies.of_step(exceeded.step).max_restarts
    return value is None or value > exceeded.value


def running_step(run: Run, observation: Observation, now: datetime) -> RunningStep | None:
    """Returns the attempt of the current step that is running, and since when it was observed.

    ``now`` is its first observation unless ``run`` already has the same attempt. The node's clock
    is not used, since it may differ from the operator's. None: no attempt is running.
    """
    current, known = observation.current_step, run.running_step
    if current is None or current.status is None or current.container.sidecar:
        return None
    status = current.status
    if not status.running or not status.container_id:
        return None
    if known is not None and known.container_id == status.container_id:
        return known
    return RunningStep(name=status.name, container_id=status.container_id, first_seen_time=now)


def _restarts(policies: Policies, run: Run, current: Step, title: str) -> Iterator[RunLimit]:
    """Yields the limit if the restarts of the step in this run exceed maxRestarts, or if the
    restart that the kubelet is about to make will exceed it. The restart policy and rules of the
    container decide whether the kubelet restarts it (KEP-5307)."""
    allowed = policies.of_step(current.container.name).max_restarts
    status = current.status
    if allowed is None or status is None or current.container.sidecar:
        return
    restarts = pod_restarts.restarts_in_run(run, status)
    end = failures.failure(status)
    failed = end is not None and end.reason not in LOST_ENDS
    restarted = end is not None and current.container.after_exit(end.exit_code) == RESTART
    about_to = failed and restarted and not status.running
    if restarts > allowed or (restarts == allowed and about_to):
        how = f": it {failures.ending(end, status.restart_count)}" if end else ""
        if not end and run.cause is not None and run.cause.container == status.name:
            how = f": it exited with {run.cause.exit_code}, which restarts all containers"
        yield RunLimit(
            Exceeded(limit=MAX_RESTARTS, step=status.name, value=allowed),
            run.start_time,
            Explanation(
                Reason.RESTART_LIMIT_EXCEEDED,
                f"{title} failed, and its {MAX_RESTARTS} of {allowed} allows no further restart"
                f"{how}",
            ),
        )


def _timeout(policies: Policies, run: Run, current: Step, title: str) -> Iterator[RunLimit]:
    allowed = policies.of_step(current.container.name).timeout_seconds
    attempt = run.running_step
    if allowed is None or attempt is None:
        return
    yield RunLimit(
        Exceeded(limit=TIMEOUT, step=attempt.name, value=allowed),
        attempt.first_seen_time + timedelta(seconds=allowed),
        Explanation(
            Reason.STEP_TIMED_OUT, f"{title} was still running after its {TIMEOUT} of {allowed} s"
        ),
    )


def _deadline(
    policies: Policies, run: Run, observation: Observation, current: Step
) -> Iterator[RunLimit]:
    """Yields initDeadlineSeconds. Time while the Pod has scheduling gates does not count, because
    the scheduler does not consider the Pod."""
    allowed, pod = policies.init_deadline_seconds, observation.pod
    if allowed is None or pod.scheduling_gated:
        return
    # A run that the kubelet starts is younger than its Pod.
    since = run.ungated_time or max(pod.created_at or run.start_time, run.start_time)
    state = explanations.initialization(observation).message
    yield RunLimit(
        Exceeded(limit=DEADLINE, step=current.container.name, value=allowed),
        since + timedelta(seconds=allowed),
        Explanation(
            Reason.INIT_DEADLINE_EXCEEDED,
            f"not initialized within {DEADLINE} ({allowed} s): {state}",
        ),
    )
