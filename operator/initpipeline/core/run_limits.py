"""The limits of a run: which it can exceed, when it does, and what is said of it then.

A limit is a time, so that one value tells both whether it is exceeded and when to look again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from initpipeline.api.models import Exceeded, FailedStep, Policies, Run, RunningStep
from initpipeline.api.reasons import BY_KUBELET, Reason
from initpipeline.core import explanations, failures, pod_steps
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import RESTART, Pod
from initpipeline.core.kubelet_reasons import LOST_ENDS
from initpipeline.core.pod_end import fate
from initpipeline.core.pod_steps import Step

DEADLINE = "initDeadlineSeconds"
TIMEOUT = "timeoutSeconds"
MAX_RESTARTS = "maxRestarts"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the current run, and from when on the run has exceeded it."""

    exceeded: Exceeded
    at: datetime
    why: Explanation


def limits(policies: Policies, run: Run, pod: Pod, steps: Sequence[Step]) -> tuple[Limit, ...]:
    """Those that the run can exceed as things are, the earliest first. A Pod that is being deleted
    is about to be lost, and a run that is initialized has met them all."""
    current = pod_steps.current(steps)
    if run.initialized_time is not None or pod.deleting or current is None:
        return ()
    title = explanations.step_title(current, len(steps))
    found = [
        *_restarts(policies, run, current, title),
        *_timeout(policies, run, current, title),
        *_deadline(policies, run, pod, current, steps),
    ]
    return tuple(sorted(found, key=lambda limit: limit.at))


def raised(exceeded: Exceeded, policies: Policies) -> bool:
    """Whether the limit that ended a run is a higher one now, or none any more."""
    if exceeded.limit == DEADLINE:
        value = policies.init_deadline_seconds
    elif exceeded.limit == TIMEOUT:
        value = policies.of_step(exceeded.step).timeout_seconds
    else:
        value = policies.of_step(exceeded.step).max_restarts
    return value is None or value > exceeded.value


def running_step(run: Run, steps: Sequence[Step], now: datetime) -> RunningStep | None:
    """The attempt that is running: since the first look that found it so, which was ``now`` unless
    it was known before. By our clock, since the node's may differ."""
    current = pod_steps.current(steps)
    if current is None or current.status is None or current.container.sidecar:
        return None
    status, known = current.status, run.running_step
    if not status.running or not status.container_id:
        return None
    if known is not None and known.container_id == status.container_id:
        return known
    return RunningStep(name=status.name, container_id=status.container_id, first_seen_time=now)


def failed_step(limit: Limit, steps: Sequence[Step]) -> FailedStep | None:
    """The evidence: the step at which the run was ended, and how its last attempt had failed, if
    one had."""
    current = pod_steps.current(steps)
    if current is None:
        return None
    status = current.status
    end = failures.failure(status) if status else None
    step = failures.evidence(current.container.name, status, end)
    return step.model_copy(update={"reason": step.reason or limit.why.reason.value})


def _restarts(policies: Policies, run: Run, current: Step, title: str) -> Iterator[Limit]:
    """Yields maxRestarts once the kubelet has restarted the step too often, or is about to. The
    restart policy and rules of the container decide what the kubelet does (KEP-5307)."""
    allowed = policies.of_step(current.container.name).max_restarts
    status = current.status
    if allowed is None or status is None or current.container.sidecar:
        return
    baselines = {baseline.name: baseline.restart_count for baseline in run.init_restart_baselines}
    restarts = status.restart_count - baselines.get(status.name, 0)
    end = failures.failure(status)
    failed = end is not None and end.reason not in LOST_ENDS
    restarted = end is not None and current.container.after_exit(end.exit_code) == RESTART
    about_to = failed and restarted and not status.running
    if restarts > allowed or (restarts == allowed and about_to):
        how = f": it {failures.ending(end, status.restart_count)}" if end else ""
        if not end and run.cause is not None and run.cause.container == status.name:
            how = f": it exited with {run.cause.exit_code}, which restarts all containers"
        yield Limit(
            Exceeded(limit=MAX_RESTARTS, step=status.name, value=allowed),
            run.start_time,
            Explanation(
                Reason.RESTART_LIMIT_EXCEEDED,
                f"{title} needs more restarts than its {MAX_RESTARTS} of {allowed}{how}",
            ),
        )


def _timeout(policies: Policies, run: Run, current: Step, title: str) -> Iterator[Limit]:
    allowed = policies.of_step(current.container.name).timeout_seconds
    attempt = run.running_step
    if allowed is None or attempt is None:
        return
    yield Limit(
        Exceeded(limit=TIMEOUT, step=attempt.name, value=allowed),
        attempt.first_seen_time + timedelta(seconds=allowed),
        Explanation(
            Reason.STEP_TIMED_OUT, f"{title} was still running after its {TIMEOUT} of {allowed} s"
        ),
    )


def _deadline(
    policies: Policies, run: Run, pod: Pod, current: Step, steps: Sequence[Step]
) -> Iterator[Limit]:
    """Yields initDeadlineSeconds. The time that the Pod spent behind a scheduling gate does not
    count: it could not make progress."""
    allowed = policies.init_deadline_seconds
    if allowed is None or pod.scheduling_gated:
        return
    own = run.trigger not in BY_KUBELET
    since = run.ungated_time or (pod.created_at if own else None) or run.start_time
    seen = explanations.initialization(pod, steps, fate(pod)).message
    yield Limit(
        Exceeded(limit=DEADLINE, step=current.container.name, value=allowed),
        since + timedelta(seconds=allowed),
        Explanation(
            Reason.INIT_DEADLINE_EXCEEDED,
            f"not initialized within the {DEADLINE} of {allowed} s: {seen}",
        ),
    )
