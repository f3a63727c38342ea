"""A differential oracle: a changed pipeline must end like a new one with the same spec.

As in Acto (SOSP 2023), the expected end state is not written down. It is the end state of another
pipeline that was created with the last spec of the sequence, in another cluster.

``end_state`` has what is compared: the conditions, the Pod, the mirror, the current run and its
limits. It leaves out what follows from the past: numbers, triggers and times of runs, tokens,
history, counts of restarts and failures, UIDs and container IDs.

Some differences are documented. They are accepted until the next run that a user starts, and only
if the fields in question were changed after the current run had started:

- The rules for in-place re-runs, which follow from rerunStrategy and rerunPolicy, take effect with
  the next Pod. A run after several restarts or failures in a row has no rules.
- Limits that are lowered do not judge a run again that is initialized or has ended.
- A run that ended while logTails was Omit has no termination messages later either.
- While a pipeline is suspended, status has the run before the suspension and the hash of its
  template.

So a run is requested on both afterwards, or both are resumed. From then on there must be no
difference. After that the same event happens to both, which shows the policies that a Pod at rest
does not show.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from initpipeline.api.models import CompletedInitContainer, InitPipelineStatus, RestartBaseline
from initpipeline.api.names import (
    IN_PLACE,
    RERUN_IN_PLACE_ANNOTATION,
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType
from initpipeline.core import run_limits
from initpipeline.core.observation import observe
from initpipeline.core.pod import Pod
from initpipeline.core.template import normal_form
from tests.builders import pipeline
from tests.unit.model.kubelet import Kind
from tests.unit.model.scene import Scene, is_ours, without_none
from tests.unit.model.specs import Spec
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS

WAITS: Final = 12
"""How often the clock advances to the next event. A step that never succeeds does not rest."""
EVENTS: Final = ("app exits", "Pod is deleted", "Pod is evicted", "nothing")
DELETED: Final = {"deleted": True}
"""The end state of a pipeline that does not exist any more."""


class Play(Scene):
    """A pipeline whose containers end as their names determine.

    "bad" fails, "slow" and "app" do not end, "flaky" fails twice in each Pod, "job" and all other
    steps succeed.
    """

    def __init__(self, first: Spec) -> None:
        super().__init__()
        self.deleted_with = 143
        self._changes: list[tuple[datetime, set[str]]] = []
        """The fields of spec that were changed, and when."""
        self.run_before: int | None = None
        """The number of the run before a user started another one. None: no user has yet."""
        self.create(first)
        self.rest()

    def create(self, first: Spec) -> None:
        raw = {**pipeline().of_generation(1).raw(), "spec": without_none(copy.deepcopy(first))}
        self.api.put(PIPELINES, raw)

    def change(self, new: Spec) -> None:
        """Replace the spec as a user, then wait until the pipeline is at rest."""
        raw = self.api.objects[PIPELINES, KEY]
        absent = dict.fromkeys(raw["spec"].keys() - new.keys())
        before, change = raw["spec"], {**absent, **copy.deepcopy(new)}
        fields = {field for field, value in change.items() if before.get(field) != value}
        self._changes.append((self.cluster.clock(), fields))
        self.change_spec(change)
        self.rest()

    def changed_in_this_run(self) -> set[str]:
        """Returns the fields of spec that were changed after the current run had started."""
        run = self.api.pipeline.status.run
        since = run.start_time if run else None
        return {
            field for time, fields in self._changes for field in fields if not since or time > since
        }

    def start_run(self) -> None:
        """Request a run, or resume a suspended pipeline."""
        run = self.api.pipeline.status.run
        self.run_before = run.number if run else 0
        if self.api.pipeline.policies.suspend:
            self.change_spec({"suspend": None})
        else:
            self.set_token("requested by the oracle")
        self.rest()

    def happens(self, event: str) -> None:
        """Let the event happen to the Pod, if there is one that it can happen to."""
        if event == "app exits" and self.has_live_pod():
            apps = [c for c in self.kubelet.running if c.kind is Kind.APP]
            if apps:
                self.kubelet.exits(apps[0].name, 1)
        elif event == "Pod is deleted" and self.has_live_pod():
            self.api.delete(PODS)
        elif event == "Pod is evicted" and self.has_running():
            self.kubelet.evicts()
        self.rest()

    def rest(self) -> None:
        """Let the operator and the kubelet work until both are at rest, or a step has failed
        often."""
        self.act()
        for _ in range(WAITS):
            if not self.wait():
                return
            self.act()

    def act(self) -> None:
        self.settle()
        for _ in range(20):
            ending = (
                [c for c in self.kubelet.running if _ends(c.name)] if self.has_live_pod() else []
            )
            if not ending:
                return
            self.cluster.clock.seconds += 1
            first = ending[0]
            self.kubelet.exits(first.name, _exit_code(first.name, first.failures))
            self.settle()

    def has_unscheduled_pod(self) -> bool:
        """Returns whether no kubelet has the Pod. The template may name a node."""
        pod, kubelet = self.cluster.pod, self.cluster.kubelet
        if pod is None or "schedulingGates" in pod["spec"] or not is_ours(pod):
            return False
        return kubelet is None or kubelet.uid != pod["metadata"]["uid"]


def _ends(name: str) -> bool:
    return name in {"one", "two", "bad", "flaky", "job"} or name.startswith("x")


def _exit_code(name: str, failures: int) -> int:
    return 1 if name == "bad" or (name == "flaky" and failures < 2) else 0


def end_state(play: Play) -> Raw:
    """Returns the state that two pipelines with the same spec have in common."""
    if not play.exists():
        return DELETED
    facts = play.api.pipeline
    status, pod = facts.status, play.cluster.pod
    run = status.run
    conditions = {c.type: (c.status, c.reason, _timeless(c.message)) for c in status.conditions}
    unavailable = conditions.pop(ConditionType.IN_PLACE_UNAVAILABLE, None)
    annotations = pod["metadata"].get("annotations", {}) if pod else {}
    return {
        "conditions": conditions,
        "in place": (unavailable, annotations.get(RERUN_IN_PLACE_ANNOTATION)),
        "generation": {facts.generation, status.observed_generation} == {facts.generation}
        and {c.observed_generation for c in status.conditions} == {facts.generation},
        "pod": None if pod is None else _pod(pod),
        "mirror": [_container(raw) for raw in status.init_container_statuses],
        "progress": (status.init_progress, status.current_step),
        "resources": status.effective_resources and status.effective_resources.to_api(),
        "template": status.template_hash == facts.template_hash,
        "waits": status.next_run_time is not None,
        "since the user's run": _since(play, status),
        "requeue": _due(play),
        "run": None
        if run is None
        else {
            "result": run.result,
            "reason": run.reason,
            "message": _timeless(run.message or ""),
            "exceeded": run.exceeded and run.exceeded.to_api(),
            "initialized": run.initialized_time is not None,
            "step": run.running_step and run.running_step.name,
            "completed": _names(run.completed_init_containers),
            "baselines": [] if run.completion_time else _names(run.restart_baselines),
            "limits": sorted(_limits(play, status)),
        },
    }


def _names(items: Sequence[CompletedInitContainer | RestartBaseline]) -> list[str]:
    return sorted(item.name for item in items)


def _pod(raw: Raw) -> Raw:
    """Returns the Pod as the API server would store it, without the number and token of its run,
    and without the operator's rules for in-place re-runs."""
    metadata, own = raw["metadata"], copy.deepcopy(raw["spec"])
    annotations = metadata.get("annotations", {})
    if annotations.get(RERUN_IN_PLACE_ANNOTATION) == IN_PLACE:
        for container in own["containers"]:
            del container["restartPolicy"], container["restartPolicyRules"]
    own.pop("nodeName", None)
    ours = {
        RUN_ANNOTATION,
        RERUN_TOKEN_ANNOTATION,
        TEMPLATE_ANNOTATION,
        RERUN_IN_PLACE_ANNOTATION,
    }
    return {
        "annotations": {k: v for k, v in annotations.items() if k not in ours},
        "labels": metadata.get("labels"),
        "finalizers": metadata.get("finalizers"),
        "spec": normal_form({"spec": own})["spec"],
        "phase": raw["status"].get("phase"),
        "deleting": "deletionTimestamp" in metadata,
    }


def _container(raw: Raw) -> Raw:
    """Returns the name and state of a mirrored init container."""
    ended = raw["state"].get("terminated", {})
    waiting = raw["state"].get("waiting", {})
    how = ended.get("exitCode"), waiting.get("reason")
    return {"name": raw["name"], "ready": raw["ready"], "state": [*raw["state"]], "how": how}


def _limits(play: Play, status: InitPipelineStatus) -> Iterator[str]:
    """Yields the limits that the current run may exceed, with the seconds from its Pod's start."""
    raw, run = play.cluster.pod, status.run
    if raw is None or run is None or run.completion_time is not None:
        return
    pod = Pod.from_api(raw)
    if pod.uid != run.pod_uid or pod.created_at is None:
        return
    for limit in run_limits.applicable(play.api.pipeline.policies, run, observe(pod, run)):
        yield json.dumps(limit.exceeded.to_api())


def _since(play: Play, status: InitPipelineStatus) -> tuple[int, ...] | None:
    """Returns the number of runs, failures and reruns since a user has started a run."""
    if play.run_before is None or status.run is None:
        return None
    return status.run.number - play.run_before, status.failed_runs, status.rerun_count


def _due(play: Play) -> bool:
    """Returns whether the operator waits for a time."""
    due: datetime | None = play.process.agenda.due
    return due is not None


_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z")
_COUNTS: Final = re.compile(
    r"\b(run) \d+\b|\d+ runs? (?:has|have) failed|backoffLimit to \d+|restarted \d+ times?|"
    r"(?:\d+(?:st|nd|rd|th)|first|second) time|attempt \d+|restart \d+"
)


def _timeless(message: str) -> str:
    """Returns the message without times, and without numbers and counts of runs and restarts."""
    return _COUNTS.sub("N", _MOMENT.sub("T", message))


@dataclass(frozen=True)
class Difference:
    """A difference of two pipelines with the same spec."""

    when: str
    changed: Raw
    """What the changed pipeline has, by the fields of end_state that differ."""
    fresh: Raw

    def __str__(self) -> str:
        lines = [f"{self.when}, the changed pipeline differs from a new one:"]
        for field in self.changed:
            lines += [f"- {field}", f"    changed: {self.changed[field]}"]
            lines += [f"    new:     {self.fresh[field]}"]
        return "\n".join(lines)


def difference(specs: Sequence[Spec], event: str) -> Difference | None:
    """Returns how a pipeline that had these specs in turn differs from a new one with the last of
    them. None: it does not differ, or it was deleted before the last change (ttl)."""
    changed, fresh = Play(specs[0]), Play(specs[-1])
    for new in specs[1:]:
        if not changed.exists():
            return None
        changed.change(new)
    found = _compared("At rest", changed, fresh, _documented(changed, fresh))
    stages: tuple[tuple[str, Callable[[Play], None]], ...] = (
        ("After another run", Play.start_run),
        (f"After the event: {event}", lambda play: play.happens(event)),
    )
    for when, act in stages:
        if found is not None or not (changed.exists() and fresh.exists()):
            break
        for play in (changed, fresh):
            act(play)
        found = _compared(when, changed, fresh, frozenset())
    return found


def _compared(when: str, changed: Play, fresh: Play, ignored: frozenset[str]) -> Difference | None:
    one, other = end_state(changed), end_state(fresh)
    fields = [f for f in {**one, **other} if one.get(f) != other.get(f) and f not in ignored]
    if not fields:
        return None
    return Difference(when, *({f: state.get(f) for f in fields} for state in (one, other)))


def _documented(changed: Play, fresh: Play) -> frozenset[str]:
    """Returns the fields of end_state that may differ until the next run."""
    if not changed.exists():
        return frozenset()
    status, policies = changed.api.pipeline.status, changed.api.pipeline.policies
    fields, run = changed.changed_in_this_run(), status.run
    ended = run is not None and run.completion_time is not None
    texts = frozenset({"run", "conditions"} if ended and "logTails" in fields else ())
    if policies.suspend:
        return frozenset({"run", "template"}) | texts
    judged = run is not None and (run.initialized_time or run.completion_time)
    if judged and fields & {"initPolicies", "initDeadlineSeconds"}:
        return frozenset({*DELETED, *end_state(changed)})
    several = any(
        play.exists() and play.api.pipeline.status.rerun_count for play in (changed, fresh)
    )
    rules = several or fields & {"rerunStrategy", "rerunPolicy"}
    return frozenset({"in place"} if rules else ()) | texts
