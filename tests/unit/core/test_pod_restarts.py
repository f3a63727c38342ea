"""Restarts: of the Pod in place or with its sandbox, and of an app container."""

from dataclasses import replace

import pytest

from initpipeline.api.models import Cause, RestartBaseline
from initpipeline.api.reasons import Trigger
from initpipeline.core import pod_restarts
from initpipeline.core.evolve import evolve
from tests.builders import (
    NEVER,
    End,
    PodBuilder,
    at,
    container_id,
    fresh_pod,
    pod,
    running_pod,
)
from tests.pod_shapes import box
from tests.unit.core.samples import RESTARTING_ALL, a_run


def resized(restarts: int) -> PodBuilder:
    """Returns a Pod whose running app container requests 2 CPUs, and is restarted by a resize."""
    restarting = {"resourceName": "cpu", "restartPolicy": "RestartContainer"}
    app = {**box("app", {"cpu": "2"}), "resizePolicy": [restarting]}
    return running_pod().app(running=True, restarts=restarts).with_spec(containers=[app])


class TestKubeletRerun:
    """The kubelet has started another run in the same Pod, or not."""

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(pod().initialized("a", "b"), None, id="nothing happened"),
            pytest.param(
                pod().init("a", running=True, restarts=1, last=End()).init("b", exit=0),
                Trigger.POD_RESTARTED,
                id="sandbox re-created: the first runs again",
            ),
            pytest.param(
                pod().init("a", exit=0, restarts=1, last=End()).init("b", exit=0),
                Trigger.POD_RESTARTED,
                id="sandbox re-created: the first has run again",
            ),
            pytest.param(
                pod().init("a", exit=0, id="").init("b", exit=0, restarts=1),
                Trigger.POD_RESTARTED,
                id="only a later one shows it",
            ),
            pytest.param(
                pod().sidecar("s", running=True).init("a", exit=0, restarts=1, last=End()),
                Trigger.POD_RESTARTED,
                id="sandbox re-created: a sidecar precedes the first",
            ),
            pytest.param(
                pod().init("a", exit=1, restarts=1, last=End()).init("b", exit=0),
                Trigger.POD_RESTARTED,
                id="sandbox re-created: the first fails this time",
            ),
            pytest.param(
                pod().init("a", waiting="RestartingAllContainers", restarts=1, id="x"),
                Trigger.RESTARTED_IN_PLACE,
                id="in place: about to restart",
            ),
            pytest.param(
                pod().init("a", running=True, restarts=1, last=RESTARTING_ALL),
                Trigger.RESTARTED_IN_PLACE,
                id="in place: runs again",
            ),
            pytest.param(
                pod()
                .init("a", running=True, restarts=2, last=End(1))
                .init("b", waiting="PodInitializing", restarts=1, last=RESTARTING_ALL, id=""),
                Trigger.RESTARTED_IN_PLACE,
                id="in place: the first has failed since, and the next has yet to run",
            ),
            pytest.param(
                pod()
                .init("a", running=True, restarts=2, last=End(1))
                .init("b", exit=0, last=RESTARTING_ALL),
                Trigger.POD_RESTARTED,
                id="sandbox re-created after a pass in place: the first has failed since",
            ),
            pytest.param(
                pod().init("a", waiting="PodInitializing", restarts=1, last=RESTARTING_ALL, id=""),
                Trigger.RESTARTED_IN_PLACE,
                id="in place: removed, and its next container not made yet",
            ),
            pytest.param(
                pod()
                .init("a", running=True, restarts=2, last=End())
                .init("b", waiting="PodInitializing", restarts=1, last=RESTARTING_ALL, id=""),
                Trigger.POD_RESTARTED,
                id="sandbox re-created during a pass in place: the first had succeeded in it",
            ),
            pytest.param(
                pod()
                .init("a", running=True, restarts=2, last=End(1))
                .init("b", exit=0)
                .init("c", exit=1, restarts=1, last=RESTARTING_ALL),
                Trigger.POD_RESTARTED,
                id="sandbox re-created: a step that has not succeeded shows an earlier pass",
            ),
        ],
    )
    def test_status_after_both_steps_succeeded_shows_trigger(
        self, observed: PodBuilder, expected: Trigger | None
    ) -> None:
        assert pod_restarts.kubelet_rerun(a_run(("a", "b")), observed.build()) is expected

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(
                pod().init("a", exit=0).init("b", running=True, restarts=2, last=End(1)),
                id="a step that fails and is retried",
            ),
            pytest.param(
                pod().init("a", exit=0).sidecar("s", running=True, restarts=4, last=End(1)),
                id="a sidecar that restarts",
            ),
            pytest.param(
                pod().init("a", exit=0).init("b", exit=0).app(running=True, restarts=2),
                id="an app container that restarts",
            ),
        ],
    )
    def test_restart_within_a_run_is_not_a_rerun(self, observed: PodBuilder) -> None:
        assert pod_restarts.kubelet_rerun(a_run(("a",)), observed.build()) is None


AGAIN = pod().init("a", exit=0, restarts=1, start=90, end=98, last=End())
"""Its init container has run a second time, after a restart of the sandbox."""


class TestRestartBaselines:
    """The restart count of each app container's first start in a run initialized at second 100."""

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(pod().app(), 0, id="not started"),
            pytest.param(pod().app(running=True, start=100), 0, id="started in the same second"),
            pytest.param(
                pod().app(running=True, start=110, restarts=1, last=End(1, start=101)),
                0,
                id="restarted before the first observation",
            ),
            pytest.param(
                pod().app(running=True, start=120, restarts=2, last=End(1, start=110)),
                0,
                id="restarted twice before the first observation",
            ),
            pytest.param(
                pod().app(running=True, start=100).with_spec(containers=[]),
                0,
                id="reported, but not in the spec",
            ),
            pytest.param(
                pod().app(running=True, start=110, last=End(1, start=101)),
                0,
                id="restarted, and the kubelet has lost count",
            ),
            pytest.param(
                AGAIN.app(exit=137, start=20),
                1,
                id="sandbox re-created, the old container still shown: its next start is the first",
            ),
            pytest.param(
                AGAIN.app(running=True, start=101, restarts=1, last=End(137, start=20)),
                1,
                id="sandbox re-created: the first start is counted as a restart",
            ),
            pytest.param(
                AGAIN.app(running=True, start=130, restarts=2, last=End(1, start=101)),
                1,
                id="sandbox re-created, and restarted since",
            ),
            pytest.param(
                AGAIN.app(running=True, start=130, restarts=2, last=End(1, start=100)),
                1,
                id="sandbox re-created: started in the second of initialization, restarted since",
            ),
            pytest.param(
                AGAIN.app(running=True, start=110, last=End(1, start=101)),
                0,
                id="sandbox re-created, restarted since, and the kubelet has lost count",
            ),
            pytest.param(
                AGAIN.app(running=True, start=90, restarts=1, last=End(137, start=20)),
                1,
                id="sandbox re-created, and the node's clock set back: it runs",
            ),
            pytest.param(
                AGAIN.app(exit=1, start=100, restarts=1, last=End(137, start=20)),
                1,
                id="sandbox re-created: started in the second of initialization, ended since",
            ),
            pytest.param(
                AGAIN.app(waiting="ContainerCreating", restarts=1, last=End(137, start=20)),
                2,
                id="sandbox re-created, the next container not made yet: it will be the first",
            ),
            pytest.param(
                AGAIN.app(waiting="CrashLoopBackOff", restarts=1, last=End(1, start=101)),
                1,
                id="has ended since: no count shows whether that was its first start",
            ),
            pytest.param(
                AGAIN.app(
                    running=True,
                    start=101,
                    restarts=1,
                    last=End(137, None, None, reason="ContainerStatusUnknown"),
                ),
                1,
                id="the node was restarted: the start of the old container is not reported",
            ),
            pytest.param(
                pod().app(waiting="RunContainerError", last=End(128, NEVER, 101, "StartError")),
                0,
                id="could not be started, which was its first start",
            ),
            pytest.param(
                AGAIN.app(waiting="PodInitializing", restarts=4, last=RESTARTING_ALL, id=""),
                4,
                id="in place: counted before it starts",
            ),
            pytest.param(
                AGAIN.app(running=True, start=101, restarts=4, last=RESTARTING_ALL),
                4,
                id="in place: started",
            ),
        ],
    )
    def test_baseline_is_the_restart_count_of_the_first_start(
        self, observed: PodBuilder, expected: int
    ) -> None:
        [baseline] = pod_restarts.restart_baselines(a_run(), observed.build(), at(100))
        assert (baseline.name, baseline.restart_count) == ("app", expected)

    def test_first_start_in_a_kubelet_run_follows_that_of_an_earlier_run(self) -> None:
        """The kubelet may have lost count of the init containers, as after their removal."""
        run = a_run().model_copy(update={"trigger": Trigger.POD_RESTARTED})
        observed = pod().init("a", exit=0).app(exit=137, start=20)
        [baseline] = pod_restarts.restart_baselines(run, observed.build(), at(100))
        assert baseline.restart_count == 1

    def test_known_baseline_is_kept(self) -> None:
        observed = pod().app(running=True, start=100, restarts=7).app("log", running=True)
        run = a_run(baselines={"app": 2, "log": 0})
        kept = pod_restarts.restart_baselines(run, observed.build(), at(100))
        assert [(b.name, b.restart_count) for b in kept] == [("app", 2), ("log", 0)]


class TestRestartBaselinesAfterAResize:
    """An in-place resize of CPU restarts the app container (KEP-1287)."""

    KNOWN = RestartBaseline(name="app", restart_count=0, resources={"requests.cpu": "1"})

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(resized(restarts=1), (1, {"requests.cpu": "2"}), id="has restarted it"),
            pytest.param(resized(restarts=0), (0, {"requests.cpu": "1"}), id="is in progress"),
            pytest.param(
                resized(restarts=1).condition("PodResizePending"),
                (0, {"requests.cpu": "1"}),
                id="is deferred: the container restarted for another reason",
            ),
            pytest.param(
                resized(restarts=1).with_spec(containers=[]),
                (0, {"requests.cpu": "1"}),
                id="unknown: the container is not in the spec",
            ),
        ],
    )
    def test_baseline_follows_a_resize_that_is_done(
        self, observed: PodBuilder, expected: tuple[int, dict[str, str]]
    ) -> None:
        run = evolve(a_run(initialized=18), restart_baselines=(self.KNOWN,))
        [baseline] = pod_restarts.restart_baselines(run, observed.build(), at(18))
        assert (baseline.restart_count, baseline.resources) == expected

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(resized(restarts=0), {"requests.cpu": "2"}, id="restarted by a resize"),
            pytest.param(running_pod(), None, id="not restarted by a resize"),
        ],
    )
    def test_first_baseline_has_the_resources(
        self, observed: PodBuilder, expected: dict[str, str] | None
    ) -> None:
        [baseline] = pod_restarts.restart_baselines(a_run(), observed.build(), at(18))
        assert (baseline.restart_count, baseline.resources) == (0, expected)

    def test_initialized_run_without_baselines_counts_from_now_on(self) -> None:
        """The user has just changed rerunPolicy to OnRestart."""
        observed = resized(restarts=3).build()
        [baseline] = pod_restarts.restart_baselines(a_run(initialized=18), observed, at(18))
        assert (baseline.restart_count, baseline.resources) == (3, {"requests.cpu": "2"})


class TestInitRestartBaselines:
    """The restart count of each init container that counts as 0 restarts of a run."""

    MIRRORED = pod().init("a", exit=0, restarts=3).init("b", exit=0)
    CAUSE = Cause(container="a", exit_code=3)

    @pytest.mark.parametrize(
        ("observed", "initialized", "expected"),
        [
            pytest.param(
                MIRRORED.init("a", running=True, restarts=4),
                None,
                {"a": 2, "b": 1},
                id="a restarted all before initialization: counts. b: still the old container",
            ),
            pytest.param(
                MIRRORED.init("a", running=True, restarts=4),
                18,
                {"a": 4, "b": 1},
                id="a restarted all after initialization: does not count",
            ),
            pytest.param(
                MIRRORED.init(
                    "b",
                    waiting="RestartingAllContainers",
                    restarts=1,
                    last=RESTARTING_ALL,
                    id=container_id("b"),
                ),
                None,
                {"a": 2, "b": 1},
                id="b has been counted, but its old container is still reported",
            ),
            pytest.param(
                pod().init("a", running=True, restarts=4).init("b"),
                None,
                {"a": 2},
                id="b has no container",
            ),
            pytest.param(
                pod().init("a").init("b", exit=0),
                None,
                {"b": 1},
                id="a has no container, b: still the old one",
            ),
        ],
    )
    def test_kubelet_run_has_baselines(
        self, observed: PodBuilder, initialized: float | None, expected: dict[str, int]
    ) -> None:
        run = evolve(
            a_run(initialized=initialized),
            in_place_cause=self.CAUSE,
            init_restart_baselines=(RestartBaseline(name="a", restart_count=2),),
        )
        mirrored = self.MIRRORED.build().init_container_statuses
        baselines = pod_restarts.init_restart_baselines(run, mirrored, observed.build())
        assert {b.name: b.restart_count for b in baselines} == expected

    def test_first_restart_of_all_counts_from_zero(self) -> None:
        """The init container whose exit restarted all containers has no baseline yet."""
        run = evolve(a_run(), in_place_cause=self.CAUSE)
        mirrored = self.MIRRORED.build().init_container_statuses
        observed = pod().init("a", running=True, restarts=4).build()
        [baseline] = pod_restarts.init_restart_baselines(run, mirrored, observed)
        assert (baseline.name, baseline.restart_count) == ("a", 0)

    @pytest.mark.parametrize(
        ("last", "expected"),
        [
            pytest.param(End(137, reason="ContainerStatusUnknown"), {"a": 3}, id="lost"),
            pytest.param(End(1), {}, id="failed: its restarts count"),
        ],
    )
    def test_container_without_baseline_gets_one_if_it_was_lost(
        self, last: End, expected: dict[str, int]
    ) -> None:
        first = pod().init("z", exit=0)
        observed = first.init("a", running=True, restarts=3, last=last).init("b").build()
        baselines = pod_restarts.raised_baselines(a_run(), observed)
        assert {b.name: b.restart_count for b in baselines} == expected

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            pytest.param(1, 2, id="below the baseline"),
            pytest.param(3, 3, id="above the baseline"),
        ],
    )
    def test_lost_container_raises_its_baseline(self, count: int, expected: int) -> None:
        lost = End(137, reason="ContainerStatusUnknown")
        observed = pod().init("a", running=True, restarts=count, last=lost).build()
        known = (RestartBaseline(name="a", restart_count=2),)
        run = evolve(a_run(), init_restart_baselines=known)
        [baseline] = pod_restarts.raised_baselines(run, observed)
        assert (baseline.name, baseline.restart_count) == ("a", expected)


RESTARTS_ALL = pod().app("z", exit=3, end=30).app("b", exit=4, end=40).app("c", exit=5, end=35)
RESTARTS_ALL = RESTARTS_ALL.in_place().condition(pod_restarts.ALL_CONTAINERS_RESTARTING)


class TestInPlaceCause:
    """The container whose rule restarts all containers of the Pod."""

    def test_latest_matching_exit_is_the_cause(self) -> None:
        cause = pod_restarts.in_place_cause(RESTARTS_ALL.build())
        assert cause == Cause(container="b", exit_code=4, reason="Error")

    def test_later_exit_that_matches_no_rule_is_not_the_cause(self) -> None:
        codes = {"operator": "In", "values": [3]}
        rules = [{"action": "RestartAllContainers", "exitCodes": codes}]
        containers = [{"name": name, "restartPolicyRules": rules} for name in ("z", "b", "c")]
        observed = RESTARTS_ALL.with_spec(containers=containers).build()
        assert pod_restarts.in_place_cause(observed) == Cause(
            container="z", exit_code=3, reason="Error"
        )

    def test_exit_without_time_is_the_earliest(self) -> None:
        observed = RESTARTS_ALL.app("b", exit=4, end=40)
        observed.apps[1].status["state"]["terminated"]["finishedAt"] = None  # type: ignore[index]
        cause = pod_restarts.in_place_cause(observed.build())
        assert cause is not None
        assert cause.container == "c"

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(replace(RESTARTS_ALL, conditions=()), id="no restart in progress"),
            pytest.param(replace(RESTARTS_ALL, rules=False), id="no rule matches"),
        ],
    )
    def test_unreported_cause_is_not_returned(self, observed: PodBuilder) -> None:
        assert pod_restarts.in_place_cause(observed.build()) is None


class TestAppRestart:
    """The cause: the end of an app container that has restarted since initialization."""

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(running_pod(), None, id="runs"),
            pytest.param(
                running_pod().app(exit=1), None, id="ended: whether it restarts is not known yet"
            ),
            pytest.param(
                running_pod().app(running=True, restarts=1, last=End(3, start=20, message="bye")),
                Cause(container="app", exit_code=3, reason="Error", message="bye"),
                id="restarted",
            ),
            pytest.param(
                running_pod().app(running=True, restarts=1, last=End(0, start=20)),
                Cause(container="app", exit_code=0, reason="Completed"),
                id="restarted after it had ended with 0",
            ),
            pytest.param(
                running_pod().app(
                    running=True, restarts=1, last=End(137, 20, signal=9, reason="OOMKilled")
                ),
                Cause(container="app", exit_code=137, signal=9, reason="OOMKilled"),
                id="out of memory",
            ),
            pytest.param(
                running_pod().app(waiting="CrashLoopBackOff", last=End(1, start=20)),
                Cause(container="app", exit_code=1, reason="Error"),
                id="waits in back-off: its restart is decided",
            ),
            pytest.param(
                running_pod().app(
                    waiting="CrashLoopBackOff", last=End(128, NEVER, 20, "StartError")
                ),
                Cause(container="app", exit_code=128, reason="StartError"),
                id="could not be started, and waits in back-off",
            ),
            pytest.param(
                running_pod().app(running=True, last=End(1, start=20)),
                None,
                id="runs again, and the kubelet has lost count",
            ),
            pytest.param(
                running_pod().app(exit=5, restarts=1),
                Cause(container="app", exit_code=5, reason="Error"),
                id="restarted and ended again: the kubelet does not report the first end",
            ),
            pytest.param(
                running_pod().app(running=True, restarts=1),
                Cause(container="app"),
                id="restarted, and the kubelet does not report the cause",
            ),
            pytest.param(
                running_pod().app("late", running=True, restarts=5),
                None,
                id="a container without a baseline",
            ),
            pytest.param(
                fresh_pod()
                .initialized("one", "two")
                .app(running=True)
                .app("late", running=True, restarts=5)
                .reversed_statuses()
                .app(running=True, restarts=1),
                Cause(container="app"),
                id="a container without a baseline before one that has restarted",
            ),
        ],
    )
    def test_restart_has_cause(self, observed: PodBuilder, expected: Cause | None) -> None:
        run = a_run(("one", "two"), baselines={"app": 0}, initialized=18)
        assert pod_restarts.app_restart(run, observed.build()) == expected

    def test_back_off_from_before_the_run_is_not_a_restart(self) -> None:
        """The kubelet reports the old container until it starts the next: its first in the run."""
        observed = running_pod().app(waiting="CrashLoopBackOff", last=End(1, start=5))
        run = a_run(baselines={"app": 1}, initialized=18)
        assert pod_restarts.app_restart(run, observed.build()) is None

    @pytest.mark.parametrize(
        ("amount", "restarted"),
        [
            pytest.param("1", False, id="since the run was initialized"),
            pytest.param("2", True, id="before: the container restarted for another reason"),
        ],
    )
    def test_restart_by_a_resize_in_place_does_not_count(
        self, amount: str, restarted: bool
    ) -> None:
        baseline = RestartBaseline(name="app", restart_count=0, resources={"requests.cpu": amount})
        run = evolve(a_run(initialized=18), restart_baselines=(baseline,))
        assert bool(pod_restarts.app_restart(run, resized(restarts=1).build())) is restarted

    def test_second_of_two_app_containers_is_the_cause(self) -> None:
        observed = running_pod().app("log", running=True, restarts=1, last=End(4, start=20))
        run = a_run(baselines={"app": 0, "log": 0}, initialized=18)
        cause = pod_restarts.app_restart(run, observed.build())
        assert cause is not None
        assert cause.container == "log"

    def test_restart_before_initialization_does_not_count(self) -> None:
        observed = fresh_pod().app(running=True, restarts=1, last=End(1))
        assert pod_restarts.app_restart(a_run(baselines={"app": 0}), observed.build()) is None

    def test_message_is_clipped_to_1_kib(self) -> None:
        observed = running_pod().app(running=True, restarts=1, last=End(1, 20, message="ä" * 2000))
        run = a_run(baselines={"app": 0}, initialized=18)
        cause = pod_restarts.app_restart(run, observed.build())
        assert cause is not None
        assert cause.message is not None
        assert len(cause.message.encode()) <= 1024
