"""The acts: what is done, which run must follow, and how the run before must have ended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from initpipeline.api.reasons import Reason, Result, Trigger
from tests.demo import manifests
from tests.demo.api import collection
from tests.demo.errors import DemoError
from tests.demo.place import APP, NAMESPACE, PIPELINE, Place
from tests.demo.snapshot import Snapshot
from tests.demo.view import View
from tests.demo.world import Restarted, World

FAILING_STEP: Final = "migrate"
WAITING_STEP: Final = "wait-for-database"


@dataclass(frozen=True)
class Remark:
    """A line of explanation, said once when its moment comes."""

    text: str
    fits: Callable[[Snapshot], bool]


@dataclass(frozen=True)
class Act:
    """One cause of a run."""

    title: str
    explanation: str
    do: Callable[[], object]
    trigger: Trigger
    ends_last_run: Result | None
    """How the run before goes into history; None: there is none before."""
    remarks: tuple[Remark, ...] = ()


class Prompter:
    """Says the remarks of the present act."""

    def __init__(self, view: View) -> None:
        """Nothing to say yet."""
        self._view = view
        self._left: list[Remark] = []

    def begin(self, act: Act) -> None:
        """From now on the remarks of this act."""
        self._left = list(act.remarks)

    def moved(self, snapshot: Snapshot) -> None:
        """Remarks follow what is shown."""

    def show(self, snapshot: Snapshot) -> None:
        """Say what fits this moment."""
        for remark in [one for one in self._left if one.fits(snapshot)]:
            self._left.remove(remark)
            self._view.note(remark.text)

    def restarted(self, _event: Restarted, snapshot: Snapshot) -> None:
        """Nothing to add."""


def play(act: Act, number: int, place: Place, world: World) -> None:
    """Do it, and see its run through until the app is Ready."""
    act.do()
    world.wait(lambda now: now.number >= number, place.patience, f"run {number} begins")
    _check_run(act, number, world)
    world.wait(
        lambda now: now.number > number or now.settled,
        place.patience,
        f"run {number} is initialized and its Pod Ready",
    )
    _check_run(act, number, world)


def _check_run(act: Act, number: int, world: World) -> None:
    run = world.snapshot.status.run
    if run is None or (run.number, run.trigger) != (number, act.trigger):
        found = f"run {run.number} with trigger {run.trigger}" if run else "no run"
        raise DemoError(f"{found} follows, not run {number} with trigger {act.trigger}")


def acts(place: Place, world: World, view: View) -> Iterator[Act]:
    """In order; what this place cannot do is skipped, by name."""
    yield _first(place, world, view)
    if place.kill_sandbox:
        yield _sandbox(place.kill_sandbox)
    else:
        view.text("")
        view.note("skipped: killing the Pod's sandbox, which needs access to the node's processes")
    yield _app(place)
    yield _pod(place)


def _first(place: Place, world: World, view: View) -> Act:
    first, later = manifests.demo()

    def apply() -> None:
        for one in first:
            place.api.apply(one, NAMESPACE)
        world.wait(
            lambda now: "running" in now.container(WAITING_STEP).get("state", {}),
            place.patience,
            f"step {WAITING_STEP} runs",
        )
        view.note("the step waits for a database that is not there: it is started now")
        for one in later:
            place.api.apply(one, NAMESPACE)

    return Act(
        "Four steps before the app may start",
        "kubectl apply -f manifests/examples/demo.yaml; its database comes only once step 1 waits",
        apply,
        Trigger.CREATED,
        None,
        (
            Remark(
                "failed once: the kubelet tries again at once, and the step's own words are the "
                "pipeline's message",
                lambda now: _failed(now, 0),
            ),
            Remark(
                "failed twice: before the third attempt the kubelet waits 10 s or a little more "
                "(CrashLoopBackOff)",
                lambda now: _failed(now, 1),
            ),
        ),
    )


def _failed(now: Snapshot, restarts: int) -> bool:
    step = now.container(FAILING_STEP)
    state, last = step.get("state", {}), step.get("lastState", {})
    if "running" in state or step.get("restartCount") != restarts:
        return False
    ended = state.get("terminated") or last.get("terminated")
    return bool(ended) and ended["exitCode"] != 0


def _sandbox(kill: Callable[[], None]) -> Act:
    return Act(
        "The Pod's sandbox is killed",
        "the kubelet restarts all of the Pod by itself, under the same UID; the Pod's own "
        "Initialized stays True all the while, the pipeline's does not",
        kill,
        Trigger.POD_RESTARTED,
        Result.INITIALIZED,
        (
            Remark(
                "initialized again; the kubelet waits about 10 s before it starts the app again "
                "(CrashLoopBackOff): that is its own rule for a container that ended",
                lambda now: (
                    now.status.run is not None
                    and now.status.run.trigger == Trigger.POD_RESTARTED
                    and _waits(now, APP)
                ),
            ),
        ),
    )


def _waits(now: Snapshot, container: str) -> bool:
    waiting = now.container(container).get("state", {}).get("waiting") or {}
    return bool(waiting.get("reason") == "CrashLoopBackOff")


def _app(place: Place) -> Act:
    return Act(
        "The app container is killed",
        "a Pod would only start the app again, on what the last steps left behind; a pipeline runs "
        "every step again, in a new Pod",
        place.kill_app,
        Trigger.CONTAINER_RESTARTED,
        Result.INITIALIZED,
    )


def _pod(place: Place) -> Act:
    path = f"{collection('Pod', NAMESPACE)}/{PIPELINE}"
    return Act(
        "The Pod is deleted",
        f"kubectl delete pod {PIPELINE} -n {NAMESPACE}; as an eviction or a drained node would",
        lambda: place.api.delete(path),
        Trigger.POD_LOST,
        Result.LOST,
        (
            Remark(
                "the second such re-run in a row: the operator waits 10 s (RerunBackOff), then "
                "20 s, up to 5 min, so that a Pod that keeps dying does no harm",
                lambda now: (
                    now.explanation is not None and now.explanation.reason == Reason.RERUN_BACK_OFF
                ),
            ),
        ),
    )
