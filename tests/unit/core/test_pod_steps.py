"""Steps that are done in this run."""

from datetime import datetime

import pytest

from initpipeline.api.models import CompletedInitContainer, RestartBaseline, Run
from initpipeline.core import pod_steps
from initpipeline.core.evolve import evolve
from initpipeline.core.observation import observe
from tests.builders import End, PodBuilder, at, container_id, fresh_pod, pod
from tests.unit.core.samples import a_run

CRASHED_BEFORE_APP = (
    pod()
    .init("a", exit=0, start=50, restarts=1)
    .sidecar("s", waiting="CrashLoopBackOff", restarts=1, last=End(1))
)
"""A step that has restarted in the run, and a sidecar that waits to be restarted."""


def done(observed: PodBuilder, stale: tuple[str, ...] = ()) -> list[str]:
    return [
        step.container.name
        for step in pod_steps.steps(observed.build(), a_run(stale=stale))
        if step.done
    ]


class TestSteps:
    """Init containers that count as done."""

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(pod().init("a", reported=False), [], id="no status yet"),
            pytest.param(pod().init("a"), [], id="its turn has not come"),
            pytest.param(pod().init("a", running=True), [], id="running, which sets started"),
            pytest.param(pod().init("a", exit=0), ["a"], id="ended with 0"),
            pytest.param(pod().init("a", exit=1), [], id="failed"),
            pytest.param(
                pod().init("a", running=True, restarts=1, last=End(1)), [], id="running again"
            ),
            pytest.param(
                pod().init("a", waiting="CrashLoopBackOff", restarts=2, last=End(1)),
                [],
                id="waits to be retried",
            ),
            pytest.param(
                pod().init("a", exit=0, restarts=3, last=End(1)), ["a"], id="at the fourth attempt"
            ),
            pytest.param(
                pod().init("a", exit=0).init("b", running=True), ["a"], id="the first of two"
            ),
            pytest.param(pod().initialized("a", "b"), ["a", "b"], id="both"),
            pytest.param(
                pod().initialized("a", "b").reversed_statuses(),
                ["a", "b"],
                id="both, listed by the kubelet in another order",
            ),
            pytest.param(
                pod().init("a", exit=0, end=5).init("b", exit=0, start=5, end=5),
                ["a", "b"],
                id="started in the second in which the one before it finished",
            ),
            pytest.param(
                pod().init("a", exit=1).init("b", exit=0), [], id="nothing counts after a failure"
            ),
            pytest.param(
                pod().init("a", exit=0, start=0, end=9, restarts=1).init("b", exit=0, start=3),
                ["a"],
                id="an old success: it started before the one before it finished",
            ),
            pytest.param(
                pod()
                .init("a", exit=0, start=50, last=End(137, reason="ContainerStatusUnknown"))
                .init("b", exit=0, start=20),
                ["a"],
                id="an old success: the one before it was lost with its sandbox",
            ),
            pytest.param(
                pod().init("a", exit=0, start=50, restarts=1).init("b", exit=0, start=60),
                ["a", "b"],
                id="started after the second attempt of the one before it",
            ),
            pytest.param(
                pod().init("a", exit=0, start=50, end=58, restarts=1).init("b", exit=0, start=58),
                ["a", "b"],
                id="started in the second in which the second attempt of the one before it ended",
            ),
            pytest.param(
                pod()
                .init("a", exit=0, start=50, restarts=1)
                .init("b", exit=0, start=20)
                .init("c", running=True),
                ["a", "b"],
                id="the node's clock set back: a later one runs",
            ),
        ],
    )
    def test_plain_init_containers_that_have_succeeded_are_done(
        self, observed: PodBuilder, expected: list[str]
    ) -> None:
        assert done(observed) == expected

    @pytest.mark.parametrize(
        "run",
        [
            pytest.param(a_run(("b",)), id="its success is recorded"),
            pytest.param(
                evolve(
                    a_run(), init_restart_baselines=(RestartBaseline(name="a", restart_count=1),)
                ),
                id="the step before it restarted in an earlier run",
            ),
        ],
    )
    def test_success_counts_although_the_clock_was_set_back(self, run: Run) -> None:
        observed = pod().init("a", exit=0, start=50, restarts=1).init("b", exit=0, start=20)
        assert all(step.done for step in pod_steps.steps(observed.build(), run))

    def test_success_of_the_previous_run_does_not_count(self) -> None:
        observed = pod().init("a", exit=0, restarts=1).init("b", exit=0)
        assert done(observed, stale=(container_id("a"), container_id("b"))) == ["a"]

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(pod().sidecar("s"), [], id="waiting"),
            pytest.param(pod().sidecar("s", running=True), ["s"], id="started"),
            pytest.param(
                pod().sidecar("s", running=True, started=False), [], id="its startup probe fails"
            ),
            pytest.param(
                pod().sidecar("s", exit=0), [], id="one that ended with 0 has not started"
            ),
            pytest.param(
                pod().sidecar("s", running=True).init("a", running=True), ["s"], id="before a plain"
            ),
            pytest.param(
                pod()
                .sidecar("s", waiting="CrashLoopBackOff", restarts=1, last=End(1))
                .init("a", running=True),
                ["s"],
                id="crashed after a later one had started",
            ),
            pytest.param(
                pod()
                .sidecar("s", waiting="CrashLoopBackOff", restarts=1, last=End(1))
                .init("a", exit=0)
                .init("b", running=True),
                ["s", "a"],
                id="crashed, and all after it goes on",
            ),
            pytest.param(
                pod().sidecar("s", waiting="CrashLoopBackOff", restarts=1, last=End(1)).init("a"),
                [],
                id="crashed before it had started",
            ),
            pytest.param(
                pod().sidecar("s").init("a", reported=False), [], id="nothing after it is reported"
            ),
            pytest.param(
                pod().init("a", exit=0).sidecar("s", running=True).init("b", running=True),
                ["a", "s"],
                id="between plain ones",
            ),
            pytest.param(
                pod()
                .init("a", exit=0, start=20, end=28, restarts=1)
                .sidecar("s")
                .init("b", exit=0),
                ["a"],
                id="an old success after it does not prove its start",
            ),
            pytest.param(
                pod().init("a", exit=0).sidecar("s", running=True).app(running=True),
                ["a", "s"],
                id="last",
            ),
            pytest.param(
                pod()
                .init("a", exit=0)
                .sidecar("s", waiting="CrashLoopBackOff", restarts=1, last=End(1))
                .app(running=True),
                ["a", "s"],
                id="last, crashed after the app container had started",
            ),
            pytest.param(
                CRASHED_BEFORE_APP.app(running=True, start=20),
                ["a", "s"],
                id="last, crashed, the node's clock set back: the app container runs",
            ),
            pytest.param(
                CRASHED_BEFORE_APP.app(exit=1, start=60),
                ["a", "s"],
                id="last, crashed: the app container started after the step before finished",
            ),
            pytest.param(
                CRASHED_BEFORE_APP.init("a", exit=0, start=50).app(exit=1, start=20),
                ["a", "s"],
                id="last, crashed, the node's clock set back: no step has restarted",
            ),
            pytest.param(
                pod()
                .init("a", exit=0, start=50)
                .sidecar("s", running=True, restarts=3, last=End(1))
                .init("b", exit=0, start=20),
                ["a", "s", "b"],
                id="restarted, which does not make the steps after it uncertain",
            ),
            pytest.param(
                pod()
                .init("a", exit=0, start=50, restarts=1)
                .sidecar("s", exit=137)
                .app(exit=137, start=20),
                ["a"],
                id="last, after a restart of the sandbox: the app container shown is the old one",
            ),
        ],
    )
    def test_sidecars_that_have_started_are_done(
        self, observed: PodBuilder, expected: list[str]
    ) -> None:
        assert done(observed) == expected

    def test_positions_count_from_one(self) -> None:
        observed = pod_steps.steps(pod().init("a").sidecar("s").init("b").build(), a_run())
        assert [(s.container.name, s.position) for s in observed] == [("a", 1), ("s", 2), ("b", 3)]


class TestInitialized:
    """The Pod shows that the run is initialized."""

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(fresh_pod().init("one", exit=0), False, id="one of two"),
            pytest.param(fresh_pod().initialized("one", "two"), True, id="all"),
            pytest.param(
                fresh_pod().init("one", exit=0, start=100).init("two", exit=0, start=10).ready(),
                True,
                id="the node's clock stepped back, but the Pod is Ready",
            ),
            pytest.param(
                fresh_pod()
                .init("one", exit=0, start=100)
                .init("two", exit=0, start=10)
                .app(exit=0)
                .restarts("OnFailure")
                .phase("Succeeded"),
                True,
                id="the node's clock stepped back, but the Pod has Succeeded",
            ),
            pytest.param(
                fresh_pod().init("one", running=True).condition("Initialized"),
                False,
                id="the Pod's own Initialized condition is not asked",
            ),
        ],
    )
    def test_observation_is_initialized(self, observed: PodBuilder, expected: bool) -> None:
        built = observed.build()
        assert observe(built, a_run()).initialized is expected


class TestCompleted:
    """The containers that have succeeded, by which a later run is recognized."""

    def test_plain_containers_are_recorded_without_sidecars(self) -> None:
        observed = (
            pod().init("a", exit=0).sidecar("s", running=True).init("b", running=True).build()
        )
        kept = pod_steps.completed(a_run(), pod_steps.steps(observed, a_run()))
        assert [(c.name, c.container_id) for c in kept] == [("a", container_id("a"))]

    def test_recorded_containers_are_kept(self) -> None:
        observed = pod().init("a", exit=0, id="another").init("b", exit=0).build()
        kept = pod_steps.completed(a_run(("a",)), pod_steps.steps(observed, a_run()))
        assert [(c.name, c.container_id) for c in kept] == [
            ("a", container_id("a")),
            ("b", container_id("b")),
        ]


class TestStaleContainerIDs:
    """Containers of earlier runs that the Pod still reports."""

    @pytest.mark.parametrize(
        ("mirrored", "observed", "expected"),
        [
            pytest.param(
                pod().initialized("a", "b", "c").app(running=True),
                pod().init("a", running=True, restarts=1).initialized("b", "c").app(exit=137),
                ("b", "c", "app"),
                id="the first runs again",
            ),
            pytest.param(
                pod().initialized("a", "b", "c"),
                pod()
                .init("a", exit=0, restarts=1, start=50)
                .init("b", reported=False)
                .init("c", exit=0),
                ("c",),
                id="a step is not reported",
            ),
            pytest.param(
                pod().init("a", exit=0, restarts=1).init("b", exit=0, restarts=1, id="x"),
                pod().init("a", exit=0, restarts=2, start=50).init("b", exit=0, start=20, id="y"),
                (),
                id="started over once, the node's clock set back: b had succeeded before",
            ),
            pytest.param(
                pod().init("a", exit=0).init("b", exit=0, id="x"),
                pod().init("a", exit=0, restarts=2, start=50).init("b", exit=0, start=20),
                ("b",),
                id="started over twice: b started before a finished",
            ),
            pytest.param(
                pod().init("a", exit=0).init("b", exit=0, id="x"),
                pod().init("a", exit=0, restarts=2, start=50).init("b", running=True, start=20),
                (),
                id="started over twice, the node's clock set back: b runs",
            ),
            pytest.param(
                pod().sidecar("s", running=True),
                pod().sidecar("s", running=True, restarts=1),
                (),
                id="sidecars only",
            ),
        ],
    )
    def test_old_containers_are_stale(
        self, mirrored: PodBuilder, observed: PodBuilder, expected: tuple[str, ...]
    ) -> None:
        known = evolve(
            a_run(),
            completed_init_containers=(
                CompletedInitContainer(name="a", container_id=container_id("a")),
                CompletedInitContainer(name="b", container_id="x"),
            ),
        )
        stale = pod_steps.stale_container_ids(
            known, mirrored.build().init_container_statuses, observed.build()
        )
        assert stale == tuple(container_id(name) for name in expected)


class TestLastFinished:
    """The end of the last plain init container."""

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(pod().initialized("a", "b"), at(18), id="by the kubelet's clock"),
            pytest.param(
                pod().init("a", exit=0).sidecar("s", exit=143, end=500),
                at(8),
                id="the end of a sidecar does not count",
            ),
            pytest.param(
                pod().init("a", exit=0).init("b", reported=False), at(8), id="one is not reported"
            ),
            pytest.param(pod().init("a", running=True), None, id="none has finished"),
        ],
    )
    def test_latest_end_of_a_plain_container(
        self, observed: PodBuilder, expected: datetime | None
    ) -> None:
        assert pod_steps.last_finished(pod_steps.steps(observed.build(), a_run())) == expected
