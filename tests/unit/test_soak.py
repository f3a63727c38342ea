"""The judge of the soak reports each violation, and nothing else. The schedule has one source."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from initpipeline.api.models import format_time
from initpipeline.api.raw import Raw
from tests.builders import BASE, pipeline, pod
from tests.soak import facts, record, resources, rest, schedule
from tests.soak.background import Background
from tests.soak.facts import ContainersSeen, Gap, PipelineSeen, PodSeen, ProcessSeen, Role, RunSeen
from tests.soak.judge import Judge
from tests.soak.observer import Containers
from tests.soak.order import Merger

UID = "pipeline-1"
OLD, NEW = "pod-1", "pod-2"


def run(number: int, trigger: str = "Requested", **fields: Any) -> RunSeen:
    """Returns a run that is active and not initialized, unless the fields differ."""
    token = f"t{number}" if trigger == "Requested" else ""
    given = {"token": token, "pod_uid": "", "initialized": False, "result": ""}
    return RunSeen(number, trigger, **{**given, **fields})


def ended(number: int, trigger: str = "Requested", **fields: Any) -> RunSeen:
    """Returns a run that was superseded, unless the fields differ."""
    return run(number, trigger, **{"result": "Superseded", **fields})


def state(version: int, *runs: RunSeen, **fields: Any) -> PipelineSeen:
    """Returns a state of the InitPipeline. The last run is the current one, the others ended."""
    current = runs[-1] if runs else None
    history = [one for one in runs if one.result]
    given = PipelineSeen(
        version=version,
        at=float(version),
        name="p001",
        uid=UID,
        gone=False,
        suspend=False,
        requested="",
        history_limit=10,
        template_hash="hash-1",
        conditions={},
        reasons={},
        run=current,
        history=tuple(reversed(history)),
    )
    return replace(given, **fields)


def pod_state(version: int, uid: str = OLD, *ids: str, done: int = 2, **fields: Any) -> PodSeen:
    """Returns a state of a Pod of run 1 with two init containers, the first of them done."""
    steps = tuple(
        facts.StepSeen(name, id_, done > index, sidecar=False)
        for index, (name, id_) in enumerate(zip(("a", "b"), ids or ("a1", "b1"), strict=True))
    )
    given = PodSeen(
        version=version,
        at=float(version),
        name="p001",
        uid=uid,
        gone=False,
        owner=UID,
        run=1,
        deleting=False,
        phase="Running",
        steps=steps,
        restarts=0,
    )
    return replace(given, **fields)


CREATED = run(1, "Created", pod_uid=OLD)
INITIALIZED = replace(CREATED, initialized=True)
LOST = replace(INITIALIZED, result="Lost")
DONE = replace(INITIALIZED, result="Initialized")
FIRST = (pod_state(1, done=1), state(2, CREATED))
READY = (*FIRST, pod_state(3), state(4, INITIALIZED))
DELETED = pod_state(5, deleting=True)

Fact = PipelineSeen | PodSeen | Gap | ContainersSeen
HELD: dict[str, Sequence[Fact]] = {
    "first run": READY,
    "requested": (*READY, state(5, DONE, run(2))),
    "lost": (*READY, DELETED, state(6, LOST), state(7, LOST, run(2, "PodLost"))),
    "template": (*READY, state(5, DONE, run(2, "SpecChanged"), template_hash="hash-2")),
    "retry": (*FIRST, state(3, replace(CREATED, result="Failed"), run(2, "Retry"))),
    "resumed": (
        *READY,
        state(5, INITIALIZED, suspend=True),
        state(6, DONE, suspend=True),
        state(7, DONE, run(2, "Resumed")),
    ),
    "app restarted": (
        *READY,
        pod_state(5, restarts=1),
        state(6, DONE, run(2, "ContainerRestarted")),
    ),
    "sandbox restarted": (
        *READY,
        pod_state(5, OLD, "a2", "b1", done=1),
        state(6, DONE, run(2, "PodRestarted", pod_uid=OLD)),
        pod_state(7, OLD, "a2", "b2"),
        state(8, DONE, run(2, "PodRestarted", pod_uid=OLD, initialized=True)),
    ),
    "two runs in one write": (*READY, state(5, DONE, ended(2), run(3))),
    "history is limited": (
        *READY,
        state(5, DONE, run(2), history_limit=1),
        state(6, ended(2), run(3), history_limit=1),
    ),
    "replaced Pod": (
        *READY,
        state(5, DONE, run(2)),
        pod_state(6, gone=True),
        pod_state(7, NEW, run=2),
    ),
    "another pipeline of the name": (*READY, state(6, gone=True), state(7, CREATED, uid="other")),
    "repeated state": (*READY, READY[1]),
    "hidden by a gap": (
        *FIRST,
        Gap(2, 3.0, "pods", 9, (OLD,)),
        state(4, INITIALIZED),
    ),
    "one Pod on the node": (ContainersSeen(1.0, {"p001": (OLD,)}),),
}
VIOLATED: dict[str, tuple[str, Sequence[Fact]]] = {
    "number falls": ("number_rises", (*READY, state(5, DONE, run(2)), state(6, INITIALIZED))),
    "run disappears": ("number_rises", (*READY, state(5))),
    "number is skipped": ("history_is_complete", (*READY, state(5, DONE, run(3)))),
    "run is doubled": ("history_is_complete", (*READY, state(5, DONE, DONE, run(2)))),
    "run is not recorded": ("history_is_complete", (*READY, state(5, run(2)))),
    "ended run changes": ("records_stay", (*READY, state(5, DONE), state(6, LOST, run(2)))),
    "trigger changes": ("records_stay", (*FIRST, state(3, replace(CREATED, trigger="Resumed")))),
    "run gets a second Pod": ("records_stay", (*FIRST, state(3, replace(CREATED, pod_uid=NEW)))),
    "initialization is withdrawn": ("records_stay", (*READY, state(5, CREATED))),
    "token acts twice": (
        "token_acts_once",
        (*READY, state(5, DONE, run(2)), state(6, DONE, ended(2), run(3, token="t2"))),
    ),
    "run is lost without a loss": ("run_has_a_cause", (*READY, state(5, DONE, run(2, "PodLost")))),
    "retry without a failure": ("run_has_a_cause", (*READY, state(5, DONE, run(2, "Retry")))),
    "request without a token": ("run_has_a_cause", (*READY, state(5, DONE, run(2, token="")))),
    "template is the same": ("run_has_a_cause", (*READY, state(5, DONE, run(2, "SpecChanged")))),
    "resumed without suspension": (
        "run_has_a_cause",
        (*READY, state(5, DONE, run(2, "Resumed"))),
    ),
    "app has not restarted": (
        "run_has_a_cause",
        (*READY, state(5, DONE, run(2, "ContainerRestarted"))),
    ),
    "kubelet has not started a run": (
        "run_has_a_cause",
        (*READY, state(5, DONE, run(2, "PodRestarted", pod_uid=OLD))),
    ),
    "kubelet run in another Pod": (
        "run_has_a_cause",
        (*READY, state(5, DONE, run(2, "RestartedInPlace", pod_uid=NEW))),
    ),
    "pipeline is created twice": ("run_has_a_cause", (*READY, state(5, DONE, run(2, "Created")))),
    "Pod of the lost run exists": ("loss_is_real", (*READY, state(5, LOST))),
    "initialized before the last step": ("initialized_is_true", (*FIRST, state(3, INITIALIZED))),
    "initialized by the steps of an earlier run": (
        "initialized_is_true",
        (
            *READY,
            pod_state(5, OLD, "a2", "b1"),
            state(6, DONE, run(2, "PodRestarted", pod_uid=OLD, initialized=True)),
        ),
    ),
    "condition without an initialized run": (
        "conditions_agree",
        (*FIRST, state(3, CREATED, conditions={"Initialized": "True"})),
    ),
    "Ready and Stalled": (
        "conditions_agree",
        (
            *READY,
            state(
                5,
                INITIALIZED,
                conditions=dict.fromkeys(("Initialized", "Ready", "Stalled"), "True"),
            ),
        ),
    ),
    "Ready without Initialized": (
        "conditions_agree",
        (*READY, state(5, INITIALIZED, conditions={"Ready": "True"})),
    ),
    "operator failed": (
        "conditions_agree",
        (*READY, state(5, INITIALIZED, reasons={"Stalled": "ReconcileError"})),
    ),
    "two Pods": ("one_pod", (*READY, pod_state(5, NEW))),
    "Pod before its run": ("status_before_pod", (*READY, DELETED, pod_state(6, NEW, run=2))),
    "two Pods on the node": (
        "one_pod_on_the_node",
        (ContainersSeen(1.0, {"p001": (OLD, NEW)}),),
    ),
}


def judged(story: Sequence[Fact]) -> list[str]:
    judge = Judge()
    for fact in story:
        judge.observe(fact)
    return [violation.invariant for violation in judge.violations]


@pytest.mark.parametrize("story", HELD.values(), ids=HELD)
def test_correct_story_has_no_violation(story: Sequence[Fact]) -> None:
    assert judged([one for one in story if not (one == DELETED and one is story[0])]) == []


@pytest.mark.parametrize(("invariant", "story"), VIOLATED.values(), ids=VIOLATED)
def test_violation_is_reported(invariant: str, story: Sequence[Fact]) -> None:
    assert invariant in judged(story)
    assert judged(story[:-1]) == [], "the last fact violates the invariant"


def test_each_rule_has_a_story_that_violates_it() -> None:
    from tests.soak import judge

    rules = {rule.__name__ for rule in judge.RULES}
    assert rules <= {invariant for invariant, _ in VIOLATED.values()}


def test_violation_is_one_line_with_the_evidence() -> None:
    judge = Judge()
    for fact in VIOLATED["token acts twice"][1]:
        judge.observe(fact)
    assert [str(one) for one in judge.violations] == [
        "VIOLATION token_acts_once p001 uid=pipeline-1 resourceVersion=6 t=6.0s: "
        "runs 2 and 3 have the token 't2'"
    ]


def test_outdated_pod_is_counted() -> None:
    judge = Judge()
    for fact in (*READY, state(5, DONE, run(2)), pod_state(6, gone=True), pod_state(7, NEW)):
        judge.observe(fact)
    figures = judge.world.figures
    assert (
        figures["Pods of an outdated run"],
        figures["second Pods of a run, the first started"],
    ) == (1, 1)
    assert judge.violations == []


def test_wait_for_a_requested_run_is_measured() -> None:
    judge = Judge()
    asked = replace(READY[-1], version=5, at=5.0, requested="t2")
    for fact in (*READY, asked, state(9, DONE, run(2), requested="t2")):
        judge.observe(fact)
    assert judge.world.waits == [(9.0, 4.0)]


def test_wait_is_measured_since_the_token_was_last_set() -> None:
    judge = Judge()
    asked = replace(READY[-1], version=5, at=5.0, requested="t2")
    replaced = replace(asked, version=6, at=6.0, requested="t3")
    again = replace(asked, version=8, at=8.0)
    for fact in (*READY, asked, replaced, again, state(9, DONE, run(2), requested="t2")):
        judge.observe(fact)
    assert judge.world.waits == [(9.0, 1.0)]


def test_merger_orders_the_states_of_two_watches() -> None:
    merger = Merger(["pods", "pipelines"])
    for version in (1, 3):
        merger.add(pod_state(version))
        merger.reach("pods", version)
    assert list(merger.ready()) == [], "the other watch may report earlier states"
    merger.add(state(2))
    merger.reach("pipelines", 2)
    assert [fact.version for fact in merger.ready()] == [1, 2]
    merger.reach("pipelines", 9)
    assert [fact.version for fact in merger.ready()] == [3]


def test_facts_are_read_from_the_objects_of_the_api() -> None:
    raw = pod().init("a", exit=0).init("b", running=True).raw()
    seen = facts.pod(with_version(raw), 1.0)
    assert [(step.name, step.done) for step in seen.steps] == [("a", True), ("b", False)]
    assert facts.pipeline(with_version(pipeline().raw()), 1.0).run is None


@pytest.mark.parametrize(("later", "done"), [({"exit": 0}, True), ({"waiting": ""}, False)])
def test_ended_sidecar_is_done_if_a_later_step_has_started(
    later: dict[str, Any], done: bool
) -> None:
    """The kubelet reports started: false for a sidecar that has ended with its Pod."""
    raw = pod().sidecar("proxy", exit=0, started=False).init("b", **later).raw()
    assert facts.pod(with_version(raw), 1.0).steps[0].done is done


def with_version(raw: Raw) -> Raw:
    return {**raw, "metadata": {**raw["metadata"], "resourceVersion": "7"}}


def test_recorded_facts_are_judged_again(tmp_path: Path) -> None:
    story: list[Fact] = [
        *READY,
        Gap(1, 2.0, "pods", 3, (OLD,)),
        ContainersSeen(1.0, {"p001": (OLD,)}),
    ]
    with record.Record(tmp_path / "facts.jsonl") as file:
        for fact in story:
            file.add(fact)
    assert list(record.facts(tmp_path / "facts.jsonl")) == story


def test_failure_of_an_observer_is_raised() -> None:
    observer = Background("an observer", lambda: 1 / 0)
    observer.start()
    with pytest.raises(RuntimeError, match="an observer failed"):
        observer.join()
    assert not observer.running


SIZE = schedule.Size(pipelines=20, real=5, replicas=3, seconds=300, cycles=2, rate=2)


def test_schedule_follows_from_the_seed() -> None:
    assert list(schedule.cycles(7, SIZE)) == list(schedule.cycles(7, SIZE))
    assert list(schedule.cycles(7, SIZE)) != list(schedule.cycles(8, SIZE))


def test_schedule_ends_its_faults_before_the_calm() -> None:
    for cycle in schedule.cycles(7, SIZE):
        last = cycle.faults[-1]
        assert last.at + float(last.value or 0) <= cycle.calm_at < SIZE.seconds


def test_schedule_has_all_actions_and_faults() -> None:
    steps = [
        step
        for cycle in schedule.cycles(7, replace(SIZE, cycles=30))
        for step in (*cycle.users, *cycle.faults)
    ]
    assert {step.action for step in steps} == {*schedule.User, *schedule.Fault}


def samples(
    *memory_mib: float, descriptors: Sequence[int] = (), roles: Sequence[Role] = ()
) -> list[ProcessSeen]:
    """Returns a sample of one process every five seconds."""
    used = descriptors or [20] * len(memory_mib)
    had = roles or [Role.HOLDER] * len(memory_mib)
    return [
        ProcessSeen(5.0 * index, "0", 1, role, int(memory * 2**20), count)
        for index, (memory, count, role) in enumerate(zip(memory_mib, used, had, strict=True))
    ]


@pytest.mark.parametrize(
    ("seen", "flat"),
    [
        (samples(*[60] * 12, *[70] * 40), True),
        (samples(*[70 + index for index in range(52)]), False),
        (samples(*[70] * 52, descriptors=[20] * 12 + list(range(20, 60))), False),
    ],
    ids=["warm-up does not count", "memory grows", "descriptors grow"],
)
def test_growth_of_a_process_is_judged(seen: list[ProcessSeen], flat: bool) -> None:
    assert [one.flat for one in resources.growths(seen, 0, 300)] == [flat]


def test_process_is_judged_in_each_role_after_its_start() -> None:
    roles = [Role.STARTING] * 20 + [Role.STANDBY] * 40 + [Role.HOLDER] * 40
    memory = [*range(20, 40), *[60] * 40, *[80] * 40]
    seen = samples(*memory, descriptors=[3] * 20 + [10] * 40 + [50] * 40, roles=roles)
    found = list(resources.growths(seen, 0, 500))
    assert [(one.descriptors, one.flat) for one in found] == [(10, True), (50, True)]


def test_young_process_is_not_judged() -> None:
    assert list(resources.growths(samples(*range(60, 76)), 0, 300)) == []


def at_rest(**status: Any) -> tuple[Raw, Raw]:
    """Returns a pipeline at rest, with its Pod."""
    mirror = [{"name": "a", "containerID": "a1", "state": {"terminated": {"exitCode": 0}}}]
    object_ = {
        "metadata": {"name": "p001", "generation": 3},
        "spec": {"template": {"spec": {"initContainers": [{"name": "a", "image": "v1"}]}}},
        "status": {
            "observedGeneration": 3,
            "conditions": true("Initialized", "Ready"),
            "run": {"number": 1, "podUID": OLD},
            "initContainerStatuses": mirror,
            **status,
        },
    }
    return object_, {
        "metadata": {"uid": OLD},
        "spec": {"initContainers": [{"name": "a", "image": "v1"}]},
        "status": {"phase": "Running", "initContainerStatuses": mirror},
    }


def true(*types: str) -> list[Raw]:
    return [{"type": type_, "status": "True", "reason": "R"} for type_ in types]


def test_pipeline_that_reports_its_pod_is_at_rest() -> None:
    object_, its_pod = at_rest()
    assert rest.unsettled(object_, its_pod) == ""
    (step,) = its_pod["status"]["initContainerStatuses"]
    step = {**step, "state": {"terminated": {"exitCode": 0, "startedAt": None}}}
    its_pod["status"]["initContainerStatuses"] = [step]
    assert rest.unsettled(object_, its_pod) == "", "a null field is absent"


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"observedGeneration": 2}, "observedGeneration is 2"),
        ({"nextRunTime": format_time(BASE)}, "the next run waits"),
        ({"conditions": true("Reconciling")}, "Reconciling: R"),
        ({"conditions": true("Stalled")}, "it is Stalled, and its Pod runs"),
        ({"conditions": true("Initialized")}, "Ready is"),
        ({"run": {"number": 1, "podUID": NEW}}, "the Pod is pod-1"),
        ({"initContainerStatuses": []}, "step a is"),
    ],
)
def test_pipeline_that_differs_from_its_pod_is_not_at_rest(status: Raw, why: str) -> None:
    assert rest.unsettled(*at_rest(**status)).startswith(why)


@pytest.mark.parametrize(
    ("finalizers", "pod_is_gone", "why"),
    [
        (["foregroundDeletion"], True, rest.LEFT_TO_GARBAGE_COLLECTOR),
        (["foregroundDeletion"], False, "it is being deleted"),
        (["foregroundDeletion", "example.com/another"], True, "it is being deleted"),
        ([], True, "it is being deleted"),
    ],
)
def test_deleted_pipeline_is_not_at_rest(
    finalizers: list[str], pod_is_gone: bool, why: str
) -> None:
    object_, its_pod = at_rest()
    object_["metadata"] |= {"deletionTimestamp": format_time(BASE), "finalizers": finalizers}
    assert rest.unsettled(object_, None if pod_is_gone else its_pod) == why


def test_pod_of_an_earlier_template_is_not_at_rest() -> None:
    object_, its_pod = at_rest()
    its_pod["spec"]["initContainers"][0]["image"] = "v0"
    assert rest.unsettled(object_, its_pod).startswith("the Pod has other steps")


def test_pipeline_with_an_unanswered_token_is_not_at_rest() -> None:
    object_, its_pod = at_rest()
    object_["metadata"]["annotations"] = {"initpipeline.dev/rerun": "t1"}
    assert rest.unsettled(object_, its_pod) == "no run has started for the token t1"
    object_["status"]["lastRerunToken"] = "t1"
    assert rest.unsettled(object_, its_pod) == ""


def test_suspended_pipeline_has_no_pod_at_rest() -> None:
    object_, its_pod = at_rest(conditions=true("Suspended"))
    object_["spec"]["suspend"] = True
    assert rest.unsettled(object_, None) == ""
    assert rest.unsettled(object_, its_pod) == "it is not suspended yet"


def test_containers_whose_files_are_being_written_are_read_later(tmp_path: Path) -> None:
    task = tmp_path / "run/containerd/io.containerd.runtime.v2.task/k8s.io/c1"
    task.mkdir(parents=True)
    annotations = {"container-type": "container", "sandbox-name": "p000", "sandbox-uid": "u"}
    cri = {f"io.kubernetes.cri.{name}": value for name, value in annotations.items()}
    config = json.dumps({"annotations": cri})
    (task / "init.pid").write_text(str(os.getpid()))
    containers = Containers(tmp_path, lambda: 0.0)
    (task / "config.json").write_text(config[: len(config) // 2])
    assert containers.seen().pods == {}
    (task / "config.json").write_text(config)
    assert containers.seen().pods == {"p000": ("u",)}
