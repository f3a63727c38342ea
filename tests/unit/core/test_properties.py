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
    observed = pod().of_run(draw(st.none() | st.integers(1, 6)), uid=draw(st.sampled_from("abc")))
    observed = observed.node(draw(st.none() | st.just("node-1")))
    observed = observed.init("one", **draw(containers)).init("two", **draw(containers))
    observed = observed.sidecar("log", **draw(containers)).app(**draw(containers))
    observed = observed.phase(draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed"])))
    observed = observed.ready(draw(st.booleans()))
    if draw(st.booleans()):
        observed = observed.condition("PodScheduled", since=draw(seconds))
    if draw(st.integers(0, 4)) == 0:
        observed = observed.condition("DisruptionTarget")
    if draw(st.integers(0, 4)) == 0:
        observed = observed.deleting()
    return observed.owned_by("somebody-else") if draw(st.integers(0, 9)) == 0 else observed


looks = st.lists(
    st.tuples(st.sampled_from(["", "", "", "edit", "token", "refuse"]), pods(), seconds, refusals),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150)
@given(looks)
def test_any_sequence_of_pods_keeps_the_invariants(
    story: list[tuple[str, PodBuilder | None, int, Refusal]],
) -> None:
    now = new_pipeline().reconcile(None)
    for number, (event, observed, time, refusal) in enumerate(story):
        if event == "edit":
            now = now.edited(image=f"nginx:{number}")
        elif event == "token":
            now = now.token(f"token-{number}")
        elif event == "refuse":
            now = now.reconcile(None, time)
            if isinstance(now.decision.action, CreatePod):
                now = now.reconcile(None, time, refusal=refusal)
            continue
        before, observed = now, made_before(now, observed)
        now = now.reconcile(observed, time)
        assert_truthful(before, now, observed)


def made_before(now: SimulatedPipeline, observed: PodBuilder | None) -> PodBuilder | None:
    """Returns whether the Pod was created for a run that had begun."""
    if observed is None or observed.run is None:
        return observed
    return replace(observed, run=min(observed.run, now.run.number))


def assert_truthful(
    before: SimulatedPipeline, now: SimulatedPipeline, observed: PodBuilder | None
) -> None:
    """Asserts that a run becomes initialized only if its Pod is Ready or has succeeded, or if all
    its plain init containers have succeeded."""
    known = before.run.number == now.run.number and before.run.initialized_time is not None
    if known or now.run.initialized_time is None:
        return
    assert observed is not None, "initialized without a Pod"
    built = observed.build()
    plain = {c.name for c in built.init_containers if not c.sidecar}
    succeeded = {
        s.name
        for s in built.init_container_statuses
        if s.terminated is not None and s.terminated.exit_code == 0
    }
    proven = built.has_condition("Ready") or built.phase == "Succeeded"
    assert proven or plain <= succeeded, f"initialized with {succeeded} of {plain}"


@settings(max_examples=100)
@given(pods())
def test_lost_status_leads_to_conditions(observed: PodBuilder | None) -> None:
    """Each Pod that exists when the status is lost leads to conditions."""
    seen = replace(new_pipeline(), now=100).reconcile(observed)
    assert seen.condition(ConditionType.READY).message
    assert seen.run.number >= 1
