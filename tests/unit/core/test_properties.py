"""Invariants for any sequence of Pods, including Pods that no kubelet is known to report.

The behaviour with a real kubelet is tested in tests/unit/model.

``SimulatedPipeline.reconcile`` checks after each reconcile: a second one with the same facts writes
nothing, run numbers only rise, history and messages are bounded, and no condition contradicts
another.
"""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core.decide import CreatePod
from initpipeline.core.facts import Refusal
from tests.builders import End, PodBuilder, pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline

seconds = st.integers(0, 500)
ends = st.builds(
    End,
    exit=st.sampled_from([0, 0, 1, 137]),
    start=st.none() | seconds,
    end=st.none() | seconds,
    reason=st.sampled_from([None, "RestartingAllContainers", "OOMKilled"]),
    message=st.sampled_from([None, "no database", "ä" * 3000]),
)
states: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"reported": False}),
    st.just({}),
    st.fixed_dictionaries({"exit": st.sampled_from([0, 0, 0, 1]), "start": seconds}),
    st.fixed_dictionaries({"running": st.just(True), "start": seconds}),
    st.fixed_dictionaries(
        {"waiting": st.sampled_from(["CrashLoopBackOff", "RestartingAllContainers"])}
    ),
)
containers = st.builds(
    lambda state, restarts, last: {**state, "restarts": restarts, "last": last},
    states,
    st.integers(0, 4),
    st.none() | ends,
)
refusals = st.sampled_from(
    [
        Refusal(Reason.INVALID_TEMPLATE, "invalid"),
        Refusal(Reason.QUOTA_EXCEEDED, "x" * 5000),
    ]
)


@st.composite
def pods(draw: st.DrawFn) -> PodBuilder | None:
    """Any Pod of that name, likely or not; None: no Pod exists."""
    if draw(st.integers(0, 5)) == 0:
        return None
    found = pod().of_run(draw(st.none() | st.integers(1, 6)), uid=draw(st.sampled_from("abc")))
    found = found.node(draw(st.none() | st.just("node-1")))
    found = found.init("one", **draw(containers)).init("two", **draw(containers))
    found = found.sidecar("log", **draw(containers)).app(**draw(containers))
    found = found.phase(draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed"])))
    found = found.ready(draw(st.booleans()))
    if draw(st.booleans()):
        found = found.condition("PodScheduled", since=draw(seconds))
    if draw(st.integers(0, 4)) == 0:
        found = found.condition("DisruptionTarget")
    if draw(st.integers(0, 4)) == 0:
        found = found.deleting()
    return found.owned_by("somebody-else") if draw(st.integers(0, 9)) == 0 else found


looks = st.lists(
    st.tuples(st.sampled_from(["", "", "", "edit", "token", "refuse"]), pods(), seconds, refusals),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(looks)
def test_any_sequence_of_pods_keeps_the_invariants(
    story: list[tuple[str, PodBuilder | None, int, Refusal]],
) -> None:
    now = new_pipeline().reconcile(None)
    for number, (event, found, time, refusal) in enumerate(story):
        if event == "edit":
            now = now.edited(image=f"nginx:{number}")
        elif event == "token":
            now = now.token(f"token-{number}")
        elif event == "refuse":
            now = now.reconcile(None, time)
            if isinstance(now.decision.action, CreatePod):
                now = now.reconcile(None, time, refusal=refusal)
            continue
        before, found = now, made_before(now, found)
        now = now.reconcile(found, time)
        assert_truthful(before, now, found)


def made_before(now: SimulatedPipeline, found: PodBuilder | None) -> PodBuilder | None:
    """Returns whether the Pod was created for a run that had begun."""
    if found is None or found.run is None:
        return found
    return replace(found, run=min(found.run, now.run.number))


def assert_truthful(
    before: SimulatedPipeline, now: SimulatedPipeline, found: PodBuilder | None
) -> None:
    """Asserts that a run becomes initialized only if its Pod is Ready or has succeeded, or if all
    its plain init containers have succeeded."""
    known = before.run.number == now.run.number and before.run.initialized_time is not None
    if known or now.run.initialized_time is None:
        return
    assert found is not None, "initialized without a Pod"
    built = found.build()
    plain = {c.name for c in built.init_containers if not c.sidecar}
    succeeded = {
        s.name
        for s in built.init_container_statuses
        if s.terminated is not None and s.terminated.exit_code == 0
    }
    proven = built.has_condition("Ready") or built.phase == "Succeeded"
    assert proven or plain <= succeeded, f"initialized with {succeeded} of {plain}"


@settings(max_examples=100, deadline=None)
@given(pods())
def test_lost_status_leads_to_conditions(found: PodBuilder | None) -> None:
    """Each Pod that exists when the status is lost leads to conditions."""
    seen = replace(new_pipeline(), now=100).reconcile(found)
    assert seen.condition(ConditionType.READY).message
    assert seen.run.number >= 1
