"""Replays statuses that a real kubelet (1.36) wrote. The operator misses some of them.

Each line is one status of the Pod, with what is true at that moment: which run through the init
containers it belongs to, and whether that run is initialized. The operator must report the truth of
every line that it observes, even if it has missed lines before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import pytest

from initpipeline.api.reasons import Trigger
from initpipeline.core.decide import DeletePod
from tests.builders import End, PodBuilder, container_id, fresh_pod, running_pod
from tests.unit.core.samples import RESTARTING_ALL
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started


@dataclass(frozen=True)
class Line:
    """A status that the kubelet wrote, and what is true then."""

    seconds: float
    pod: PodBuilder
    of_pass: int
    initialized: bool
    succeeded: bool = True
    """Whether an init container has succeeded in this pass."""


def at_rest(restarts: int, since: int, last: End | None = None) -> PodBuilder:
    """Every container has been restarted that often, and the app container runs."""
    before = last or (End(0, since - 100, since - 90) if restarts else None)
    app_before = last or (End(137, since - 80, since) if restarts else None)
    return (
        fresh_pod()
        .condition("Initialized")
        .init("one", exit=0, start=since, end=since + 3, restarts=restarts, last=before)
        .init("two", exit=0, start=since + 3, end=since + 7, restarts=restarts, last=before)
        .app(running=True, start=since + 7, restarts=restarts, last=app_before)
        .phase("Running")
        .ready()
    )


def sandbox_killed(pass_before: int, start: int) -> Iterator[Line]:
    """Returns the lines after the sandbox was killed: all containers run again in order."""
    new = pass_before
    old = at_rest(pass_before - 1, start - 100)
    last = End(0, start - 100, start - 97)
    dead = old.app(exit=137, start=start - 93, end=start, restarts=pass_before - 1).ready(False)
    runs_one = dead.init("one", running=True, start=start + 2, restarts=new, last=last)
    ran_one = dead.init("one", exit=0, start=start + 2, end=start + 5, restarts=new, last=last)
    runs_two = ran_one.init("two", running=True, start=start + 5, restarts=new, last=last)
    ran_two = ran_one.init("two", exit=0, start=start + 5, end=start + 9, restarts=new, last=last)
    runs_app = ran_two.app(
        running=True, start=start + 9, restarts=new, last=End(137, start - 93, start)
    )
    yield Line(start, old.condition("PodReadyToStartContainers", "False"), pass_before, True)
    yield Line(start + 2, old.condition("PodReadyToStartContainers"), pass_before, True)
    yield Line(start + 2.1, runs_one.phase("Pending"), pass_before + 1, False, succeeded=False)
    yield Line(start + 5.8, ran_one.phase("Running"), pass_before + 1, False)
    yield Line(start + 5.9, runs_two.phase("Pending"), pass_before + 1, False)
    yield Line(start + 9.8, ran_two.phase("Running"), pass_before + 1, True)
    yield Line(start + 9.9, runs_app.phase("Running").ready(), pass_before + 1, True)


def restarted_in_place(pass_before: int, start: int) -> Iterator[Line]:
    """Returns the lines after a RestartAllContainers rule matched: all containers run again."""
    count = pass_before + 2
    new = count + 1
    old = at_rest(count, start - 100, RESTARTING_ALL)
    exited = old.app(exit=7, start=start - 93, end=start, restarts=count, last=RESTARTING_ALL)
    exited = exited.ready(False)
    waiting = exited
    for name in ("one", "two"):
        waiting = waiting.init(
            name, waiting=RESTARTING_ALL.reason, restarts=new, id=container_id(name, count)
        )
    waiting = waiting.app(
        waiting=RESTARTING_ALL.reason, restarts=new, id=container_id("app", count)
    )
    made = waiting.init("two", waiting="PodInitializing", restarts=new, last=RESTARTING_ALL, id="")
    made = made.app(waiting="PodInitializing", restarts=new, last=RESTARTING_ALL, id="")
    runs_one = made.init("one", running=True, start=start, restarts=new, last=RESTARTING_ALL)
    ran_one = made.init(
        "one", exit=0, start=start, end=start + 2, restarts=new, last=RESTARTING_ALL
    )
    runs_two = ran_one.init("two", running=True, start=start + 2, restarts=new, last=RESTARTING_ALL)
    ran_two = ran_one.init(
        "two", exit=0, start=start + 2, end=start + 4, restarts=new, last=RESTARTING_ALL
    )
    runs_app = ran_two.app(running=True, start=start + 4, restarts=new, last=RESTARTING_ALL)
    yield Line(start, exited.phase("Running"), pass_before, True)
    yield Line(start + 0.05, waiting.phase("Running"), pass_before + 1, False, succeeded=False)
    yield Line(start + 0.2, runs_one.phase("Pending"), pass_before + 1, False, succeeded=False)
    yield Line(start + 2.0, ran_one.phase("Running"), pass_before + 1, False)
    yield Line(start + 2.1, runs_two.phase("Pending"), pass_before + 1, False)
    yield Line(start + 4.1, runs_app.phase("Running").ready(), pass_before + 1, True)


SANDBOX = tuple(sandbox_killed(1, 200))
SANDBOX_TWICE = (*SANDBOX, *sandbox_killed(2, 300))
PLACE = tuple(restarted_in_place(1, 200))
PLACE_TWICE = (*PLACE, *restarted_in_place(2, 300))


def known(trace: Sequence[Line]) -> SimulatedPipeline:
    """Returns the pipeline before the trace, with run 1 initialized."""
    first = at_rest(0, 100) if trace[0] in SANDBOX else at_rest(3, 100, RESTARTING_ALL)
    return started(first)


def subsets(count: int) -> Iterator[tuple[int, ...]]:
    """Every choice of lines that are seen."""
    for size in range(1, count + 1):
        yield from combinations(range(count), size)


def absences(count: int) -> Iterator[tuple[int, ...]]:
    """Lines that are seen by an operator that is down once: from line i to before line j."""
    for i in range(count):
        for j in range(i + 1, count + 1):
            yield tuple(n for n in range(count) if not i <= n < j)


def replay(
    before: SimulatedPipeline, trace: Sequence[Line], seen: Iterable[int], trigger: Trigger
) -> SimulatedPipeline:
    """Reconciles with these lines, and asserts that status is true after each."""
    number, previous, initialized = 1, None, set()
    now = before
    for index in seen:
        line = trace[index]
        now = now.reconcile(line.pod, line.seconds)
        at_line = f"at line {index} ({line.seconds} s), having seen {list(seen)}"
        # The operator recognizes a new run by the steps that had succeeded in the previous one. If
        # it has observed no success, several runs count as one.
        is_recognized = previous is None or previous.succeeded
        if line.of_pass != (previous.of_pass if previous else 1) and is_recognized:
            number += 1
        assert now.run.number == number, f"wrong run {at_line}"
        assert now.initialized is line.initialized, f"Initialized is untrue {at_line}"
        assert now.decision.action is None, f"acts on what the kubelet does by itself {at_line}"
        if number > 1:
            assert now.run.trigger == trigger, f"wrong trigger {at_line}"
        if line.initialized:
            initialized.add(number)
        previous = line
    for record in now.status.history:
        seen_initialized = record.number in initialized | {1}
        expected = "Initialized" if seen_initialized else "Unknown"
        assert record.result == expected, f"run {record.number}, having seen {list(seen)}"
        assert record.failed_step is None, "no init container failed"
    return now


@pytest.mark.parametrize(
    ("trace", "trigger"),
    [
        pytest.param(SANDBOX_TWICE, Trigger.POD_RESTARTED, id="sandbox killed, twice"),
        pytest.param(PLACE_TWICE, Trigger.RESTARTED_IN_PLACE, id="restarted in place, twice"),
    ],
)
class TestKubeletRun:
    def test_trace_with_every_line_observed_has_its_runs(
        self, trace: Sequence[Line], trigger: Trigger
    ) -> None:
        after = replay(known(trace), trace, range(len(trace)), trigger)
        assert after.past == [(1, "Created", "Initialized"), (2, trigger, "Initialized")]

    def test_downtime_between_any_two_lines_changes_no_run(
        self, trace: Sequence[Line], trigger: Trigger
    ) -> None:
        for seen in absences(len(trace)):
            replay(known(trace), trace, seen, trigger)

    def test_nothing_is_written_at_rest(self, trace: Sequence[Line], trigger: Trigger) -> None:
        after = replay(known(trace), trace, range(len(trace)), trigger)
        later = after.reconcile(trace[-1].pod, 400).reconcile(trace[-1].pod, 10_000)
        assert later.status == after.status


@pytest.mark.parametrize(
    ("trace", "trigger"),
    [
        pytest.param(SANDBOX, Trigger.POD_RESTARTED, id="sandbox killed"),
        pytest.param(PLACE, Trigger.RESTARTED_IN_PLACE, id="restarted in place"),
    ],
)
class TestSubsetsOfLines:
    def test_any_subset_is_reported_correctly(
        self, trace: Sequence[Line], trigger: Trigger
    ) -> None:
        for seen in subsets(len(trace)):
            replay(known(trace), trace, seen, trigger)

    def test_later_app_restart_starts_a_run(self, trace: Sequence[Line], trigger: Trigger) -> None:
        """The restart counts of the pass itself are no restarts, and hide none that comes later."""
        last = trace[-1].pod
        start = int(trace[-1].seconds)
        count = last.apps[0].status["restartCount"] if last.apps[0].status else 0
        crashed = last.app(
            running=True, start=start + 60, restarts=count + 1, last=End(1, start, start + 50)
        )
        for seen in subsets(len(trace)):
            before = replay(known(trace), trace, seen, trigger)
            after = before.reconcile(crashed, start + 60)
            # If only the first lines were observed, the run of the kubelet is new as well.
            assert after.run.trigger == Trigger.CONTAINER_RESTARTED, f"having seen {seen}"
            assert isinstance(after.decision.action, DeletePod)
            assert after.run.number == 3


@pytest.mark.parametrize(
    "trace",
    [
        pytest.param(SANDBOX, id="sandbox killed"),
        pytest.param(PLACE, id="restarted in place"),
    ],
)
def test_unobserved_run_1_is_one_run_with_the_next(trace: Sequence[Line]) -> None:
    """The Pod was created, then the operator was down. Unobserved runs count as one."""
    for seen in subsets(len(trace)):
        now = new_pipeline().reconcile(None)
        for index in seen:
            now = now.reconcile(trace[index].pod, trace[index].seconds)
            expected = trace[index].initialized
            assert now.initialized is expected, f"untrue at line {index} of {seen}"
        first = trace[seen[0]]
        if not first.initialized:
            assert (now.run.number, now.run.trigger) == (1, Trigger.CREATED)
            assert now.past == []


APP_EXITS = (
    running_pod(),
    running_pod().app(exit=3, end=100, message="bye").ready(False),
    running_pod().app(
        waiting="CrashLoopBackOff", last=End(3, 20, 100, message="bye"), id=container_id("app")
    ),
    running_pod().app(running=True, start=110, restarts=1, last=End(3, 20, 100, message="bye")),
)


class TestAppContainerExit:
    """Init containers do not run again in the same Pod, so the operator makes a new one."""

    @pytest.mark.parametrize("seen", [s for s in subsets(4) if s[-1] == 3])
    def test_restart_starts_one_run(self, seen: tuple[int, ...]) -> None:
        now = started(running_pod())
        for index in seen:
            now = now.reconcile(APP_EXITS[index], 100 + index)
        assert (now.run.number, now.run.trigger) == (2, Trigger.CONTAINER_RESTARTED)
        assert now.past == [(1, "Created", "Initialized")]
        assert now.decision.action == DeletePod("pod-1")
        assert now.run.cause is not None
        assert (now.run.cause.exit_code, now.run.cause.message) == (3, "bye")

    def test_exit_without_restart_starts_no_run(self) -> None:
        now = started(APP_EXITS[0]).reconcile(APP_EXITS[1], 100)
        assert now.run.number == 1
        assert now.initialized, "init containers do not run again"
