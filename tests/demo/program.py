"""The demo from its first line to its last."""

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.cluster.progress import Progress
from tests.demo import checks, report, scenario, stage
from tests.demo.errors import DemoError
from tests.demo.journal import Journal
from tests.demo.place import NAMESPACE, PIPELINE, Place
from tests.demo.scenario import Act, Prompter
from tests.demo.supervisor import Supervisor
from tests.demo.view import View
from tests.demo.world import Feed, World

LOCK: Final = "demo.lock"


def run(find_place: Callable[[Progress], Place], view: View) -> None:
    """Raises DemoError for the first thing that differs from what is said."""
    place = find_place(view)
    with _alone(place):
        feed = Feed()
        supervisor = Supervisor(
            place.layout, place.operator_arguments, place.operator_environment, feed
        )
        try:
            stage.set_up(place, supervisor, view)
            _play(place, feed, view)
            report.next_steps(place, supervisor.leave_running(), view)
        finally:
            supervisor.close()


def _play(place: Place, feed: Feed, view: View) -> None:
    journal, prompter = Journal(), Prompter(view)
    played: list[Act] = []
    world = World(place.api, NAMESPACE, PIPELINE, feed, [journal, view, prompter])
    evidence = checks.Evidence(place, world, journal, played)
    world.open()
    try:
        for number, act in enumerate(scenario.acts(place, world, view), start=1):
            view.title(f"Run {number}: {act.title}", act.explanation)
            prompter.begin(act)
            scenario.play(act, number, place, world)
            played.append(act)
            if number == 1:
                _verify(checks.after_first_run(evidence), view)
        view.text("")
        view("checking")
        _verify(checks.all_checks(evidence), view)
    finally:
        world.close()
    report.history(world.snapshot, view)


def _verify(made: Iterable[checks.Check], view: View) -> None:
    failed = []
    for check in made:
        view.check(check.claim, check.problem)
        failed += [check] if check.problem else []
    if failed:
        more = f" (and {len(failed) - 1} more, above)" if len(failed) > 1 else ""
        raise DemoError(f"not so: {failed[0].claim}: {failed[0].problem}{more}")


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Two demos in one cluster would delete each other's namespace. The kernel gives the lock back
    however this process ends."""
    with (place.layout.root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another demo is under way here: wait for its end, or end it") from None
        yield
