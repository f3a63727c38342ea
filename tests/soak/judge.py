"""The invariants, judged from the states that the API server and the node show.

A rule is a generator: it yields one sentence for each violation. It gets the state before and
after a write, and the ``World``: what was seen before that write. Facts arrive in the order of
their resourceVersions, see ``order``.

After a gap in a watch, states are missing. A rule that needs each state skips what falls into the
gap. The rules about numbers and tokens of runs skip nothing, because history keeps both.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from initpipeline.api.reasons import Reason, Result, Trigger
from tests.soak.facts import ContainersSeen, Gap, PipelineSeen, PodSeen, RunSeen, Stored


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, with the evidence."""

    invariant: str
    name: str
    uid: str
    version: int
    at: float
    evidence: str

    def __str__(self) -> str:
        """Return one line."""
        where = f"{self.name} uid={self.uid} resourceVersion={self.version} t={self.at:.1f}s"
        return f"VIOLATION {self.invariant} {where}: {self.evidence}"


@dataclass
class PodMemory:
    """What the states of one Pod have shown."""

    last: PodSeen
    done: dict[frozenset[str], int] = field(default_factory=dict)
    """The IDs of the init containers in each state in which all were done, and the first
    version."""
    containers: dict[str, set[str]] = field(default_factory=dict)
    """All IDs of each init container, by its name."""
    initialized: dict[int, frozenset[str]] = field(default_factory=dict)
    """The IDs of the init containers of each run that was initialized in the Pod."""
    restarted: bool = False
    """An app container has restarted."""
    ending: bool = False
    """The Pod was being deleted, had terminated, or was gone."""

    def add(self, pod: PodSeen) -> None:
        self.last = pod
        plain = [step for step in pod.steps if not step.sidecar]
        if all(step.done for step in pod.steps):
            self.done.setdefault(frozenset(s.container for s in plain), pod.version)
        for step in plain:
            if step.container:
                self.containers.setdefault(step.name, set()).add(step.container)
        self.restarted |= pod.restarts > 0
        self.ending |= pod.deleting or pod.gone or pod.phase in ("Succeeded", "Failed")


@dataclass
class PipelineMemory:
    """What the states of one InitPipeline have shown."""

    last: PipelineSeen
    runs: dict[int, RunSeen] = field(default_factory=dict)
    """The last state of each run."""
    tokens: dict[str, int] = field(default_factory=dict)
    """The run of each token."""
    hashes: dict[int, str] = field(default_factory=dict)
    """status.templateHash during each run."""
    suspended_in: set[int] = field(default_factory=set)
    """The runs during which spec.suspend was true."""
    checked: set[int] = field(default_factory=set)
    """The runs whose initialization was judged."""
    asked: dict[str, float] = field(default_factory=dict)
    """When the present token was set, if no run has started for it yet."""


@dataclass
class World:
    """All that was seen before the present fact."""

    pods: dict[str, PodMemory] = field(default_factory=dict)
    pipelines: dict[str, PipelineMemory] = field(default_factory=dict)
    live: dict[str, set[str]] = field(default_factory=dict)
    """UIDs of the Pods that exist, by the UID of their owner."""
    pods_of_runs: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """UIDs of the Pods that were created for a run, by the UID of the owner and the number."""
    hidden: dict[str, int] = field(default_factory=dict)
    """The objects with missing states, by UID, and the version at which the gap ended."""
    waits: list[tuple[float, float]] = field(default_factory=list)
    """When each requested run was first observed, and the seconds since its token was set."""
    figures: Counter[str] = field(default_factory=Counter)

    def pod(self, uid: str) -> PodMemory | None:
        """Return what is known of a Pod. None: a gap has hidden states of it."""
        memory = self.pods.get(uid)
        if memory is None or uid in self.hidden:
            self.figures["not judged because of a gap"] += 1
            return None
        return memory


Rule = Callable[[PipelineMemory, PipelineSeen, World], Iterator[str]]


def number_rises(known: PipelineMemory, now: PipelineSeen, _: World) -> Iterator[str]:
    """Yield if the number of the current run fell, or the run disappeared."""
    before = known.last.run
    if before is None:
        return
    if now.run is None:
        yield f"status.run of run {before.number} was removed; before: {known.last.version}"
    elif now.run.number < before.number:
        yield f"run {now.run.number} follows run {before.number} of {known.last.version}"


def history_is_complete(_: PipelineMemory, now: PipelineSeen, __: World) -> Iterator[str]:
    """Yield if history does not have each run that has ended exactly once, newest first."""
    if now.run is None:
        return
    last = now.run.number if now.run.result else now.run.number - 1
    kept = [run.number for run in now.history]
    expected = list(range(last, 0, -1))[: now.history_limit]
    if kept != expected:
        yield f"run {now.run.number} ({now.run.result or 'active'}), history has {kept}"


def records_stay(known: PipelineMemory, now: PipelineSeen, _: World) -> Iterator[str]:
    """Yield if a run changes its identity, or a run that has ended changes at all."""
    for run in _runs(now):
        before = known.runs.get(run.number)
        if before is None:
            continue
        ended = bool(before.result)
        identity = (run.trigger, run.token) != (before.trigger, before.token)
        moved = bool(before.pod_uid) and run.pod_uid != before.pod_uid
        lost = before.initialized and not run.initialized
        if identity or moved or lost or (ended and run != before):
            yield f"run {run.number} was {before}, is {run}; before: {known.last.version}"


def token_acts_once(known: PipelineMemory, now: PipelineSeen, _: World) -> Iterator[str]:
    """Yield if two runs have the same rerun token."""
    for run in _runs(now):
        first = known.tokens.get(run.token, run.number)
        if run.token and first != run.number:
            yield f"runs {first} and {run.number} have the token {run.token!r}"


def run_has_a_cause(known: PipelineMemory, now: PipelineSeen, world: World) -> Iterator[str]:
    """Yield if what has happened does not justify the trigger of a run."""
    for run in _runs(now):
        if run.number in known.runs:
            continue
        before = next((r for r in _runs(now) if r.number == run.number - 1), None)
        if run.trigger == Trigger.CREATED or before is None:
            if run.number != 1:
                yield f"run {run.number} has the trigger {run.trigger}, and no run before it"
            continue
        why = _contradiction(run, before, known, now, world)
        if why:
            yield f"run {run.number} has the trigger {run.trigger}, but {why}"


def _contradiction(
    run: RunSeen, before: RunSeen, known: PipelineMemory, now: PipelineSeen, world: World
) -> str:
    """Return why the trigger of a run is wrong. Empty: it may be right."""
    pod = world.pod(before.pod_uid) if before.pod_uid else None
    match run.trigger:
        case Trigger.POD_LOST if before.result != Result.LOST:
            return f"the run before it has the result {before.result}"
        case Trigger.RETRY if before.result != Result.FAILED:
            return f"the run before it has the result {before.result}"
        case Trigger.REQUESTED if not run.token:
            return "has no token"
        case Trigger.SPEC_CHANGED if known.hashes.get(before.number) == now.template_hash:
            current = now.run is not None and now.run.number == run.number
            return f"the template has the same hash {now.template_hash}" if current else ""
        case Trigger.RESUMED if now.uid not in world.hidden:
            seen = before.number in known.suspended_in
            return "" if seen else "spec.suspend was not true during the run before it"
        case Trigger.CONTAINER_RESTARTED if pod is not None and not pod.restarted:
            return f"no app container of Pod {before.pod_uid} has restarted"
        case Trigger.POD_RESTARTED | Trigger.RESTARTED_IN_PLACE:
            return _no_kubelet_run(run, before, pod)
    return ""


def _no_kubelet_run(run: RunSeen, before: RunSeen, pod: PodMemory | None) -> str:
    if run.pod_uid != before.pod_uid:
        return f"its Pod is {run.pod_uid}, that of the run before it {before.pod_uid}"
    if run.trigger == Trigger.POD_RESTARTED and pod is not None:
        changed = any(len(ids) > 1 for ids in pod.containers.values())
        return "" if changed else f"no init container of Pod {run.pod_uid} has another ID"
    return ""


def loss_is_real(known: PipelineMemory, now: PipelineSeen, world: World) -> Iterator[str]:
    """Yield if a run ended as Lost although its Pod was neither deleted nor terminated."""
    for run in _runs(now):
        before = known.runs.get(run.number)
        if run.result != Result.LOST or (before is not None and before.result):
            continue
        pod = world.pod(run.pod_uid)
        if pod is not None and not pod.ending:
            yield f"run {run.number} is Lost, but Pod {run.pod_uid} exists ({pod.last.version})"


def initialized_is_true(known: PipelineMemory, now: PipelineSeen, world: World) -> Iterator[str]:
    """Yield if a run is reported as initialized before the Pod has shown that all of its init
    containers are done, in this run."""
    for run in sorted(_runs(now), key=lambda run: run.number):
        if not run.initialized or run.number in known.checked:
            continue
        known.checked.add(run.number)
        pod = world.pod(run.pod_uid)
        if pod is None:
            continue
        earlier = [ids for number, ids in pod.initialized.items() if number < run.number]
        fresh = [ids for ids in pod.done if not any(ids & one for one in earlier)]
        if fresh:
            pod.initialized[run.number] = fresh[-1]
        else:
            steps = ", ".join(f"{s.name} {s.container} done={s.done}" for s in pod.last.steps)
            yield (
                f"run {run.number} is initialized, but Pod {run.pod_uid} of {pod.last.version} "
                f"shows: {steps}"
            )


def conditions_agree(_: PipelineMemory, now: PipelineSeen, __: World) -> Iterator[str]:
    """Yield if Initialized is True without an initialized run, or conditions exclude each other."""
    true = {type_ for type_, status in now.conditions.items() if status == "True"}
    run = now.run
    if "Initialized" in true and (run is None or not run.initialized):
        yield f"Initialized is True, but {run} is not initialized"
    for one, other in (("Ready", "Stalled"), ("Ready", "Suspended"), ("Stalled", "Reconciling")):
        if {one, other} <= true:
            yield f"{one} and {other} are True"
    if "Ready" in true and "Initialized" not in true:
        yield "Ready is True, but Initialized is not"
    if Reason.RECONCILE_ERROR in now.reasons.values():
        yield "the operator failed to reconcile: see its log"


RULES: Final[tuple[Rule, ...]] = (
    number_rises,
    history_is_complete,
    records_stay,
    token_acts_once,
    run_has_a_cause,
    loss_is_real,
    initialized_is_true,
    conditions_agree,
)


class Judge:
    """Judges facts in the order in which it gets them."""

    def __init__(self) -> None:
        self.world = World()
        self.violations: list[Violation] = []

    def observe(self, fact: Stored | Gap | ContainersSeen) -> list[Violation]:
        """Return the violations that this fact shows."""
        match fact:
            case PipelineSeen():
                found = list(self._pipeline(fact))
            case PodSeen():
                found = list(self._pod(fact))
            case ContainersSeen():
                found = list(_containers(fact))
            case Gap():
                self.world.hidden.update(dict.fromkeys(fact.uids, fact.until))
                self.world.figures[f"gaps in the watch of {fact.source}"] += 1
                found = []
        self.violations += found
        return found

    def _pipeline(self, now: PipelineSeen) -> Iterator[Violation]:
        world = self.world
        known = world.pipelines.setdefault(now.uid, PipelineMemory(now))
        if now.version < known.last.version or known.last.gone:
            return  # a list has repeated a known state
        if not now.gone:
            for rule in RULES:
                for evidence in rule(known, now, world):
                    yield _violation(rule.__name__, now, evidence)
        _remember(known, now, world)

    def _pod(self, now: PodSeen) -> Iterator[Violation]:
        world, new = self.world, now.uid not in self.world.pods
        known = world.pods.setdefault(now.uid, PodMemory(now))
        if now.version < known.last.version or known.last.gone:
            return
        known.add(now)
        live = world.live.setdefault(now.owner, set())
        if now.gone:
            live.discard(now.uid)
            return
        live.add(now.uid)
        if new:
            world.figures["Pods"] += 1
            for name, evidence in _of_new_pod(now, live, world):
                yield _violation(name, now, evidence)


def _of_new_pod(now: PodSeen, live: set[str], world: World) -> Iterator[tuple[str, str]]:
    if len(live) > 1:
        yield "one_pod", f"the InitPipeline {now.owner} has the Pods {sorted(live)}"
    earlier = world.pods_of_runs.setdefault((now.owner, now.run), [])
    if earlier:
        # A violation if status records both: see records_stay. Status may lack a Pod that was
        # deleted within seconds.
        started = any(world.pods[uid].containers for uid in earlier)
        world.figures[f"second Pods of a run, the first {'' if started else 'not '}started"] += 1
    earlier.append(now.uid)
    pipeline = world.pipelines.get(now.owner)
    if pipeline is None or now.version <= world.hidden.get(now.owner, 0):
        return
    current = pipeline.last.run.number if pipeline.last.run else 0
    if now.run > max(current, 1):
        written = f"status has run {current} ({pipeline.last.version})"
        yield "status_before_pod", f"the Pod is of run {now.run}, but {written}"
    ended = pipeline.runs.get(now.run)
    if now.run < current or (ended is not None and ended.result):
        # docs/faults.md: a paused replica may create it late. The present one deletes it.
        world.figures["Pods of an outdated run"] += 1


def _containers(seen: ContainersSeen) -> Iterator[Violation]:
    for name, uids in seen.pods.items():
        if len(uids) > 1:
            evidence = f"containers of the Pods {list(uids)} run at the same time"
            yield Violation("one_pod_on_the_node", name, uids[0], 0, seen.at, evidence)


def _remember(known: PipelineMemory, now: PipelineSeen, world: World) -> None:
    figures = world.figures
    waits = now.requested and now.requested not in known.tokens and not now.suspend
    known.asked = {now.requested: known.asked.get(now.requested, now.at)} if waits else {}
    for run in _runs(now):
        before = known.runs.get(run.number)
        if before is None:
            figures[f"runs: {run.trigger}"] += 1
        if run.result and (before is None or not before.result):
            figures[f"results: {run.result}"] += 1
        known.runs[run.number] = run
        if run.token:
            known.tokens.setdefault(run.token, run.number)
            if (asked := known.asked.pop(run.token, None)) is not None:
                world.waits.append((now.at, now.at - asked))
    number = now.run.number if now.run else 0
    if now.template_hash:
        known.hashes[number] = now.template_hash
    if now.suspend:
        known.suspended_in.add(number)
    known.last = now


def _runs(now: PipelineSeen) -> tuple[RunSeen, ...]:
    """Return all runs of a status, newest first. A run that has ended is in history as well."""
    if now.run is None:
        return now.history
    if now.history and now.history[0].number == now.run.number:
        return now.history
    return (now.run, *now.history)


def _violation(invariant: str, now: Stored, evidence: str) -> Violation:
    return Violation(invariant, now.name, now.uid, now.version, now.at, evidence)
