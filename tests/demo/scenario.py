"""The acts of the demo: an action, the run that it must start, and the end of the previous run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason, Result, Trigger
from tests.cluster.cluster import Cluster
from tests.demo.cluster import APP, NAMESPACE, PIPELINE, DemoCluster
from tests.demo.errors import DemoError
from tests.demo.observer import Observer, OperatorRestarted
from tests.demo.snapshot import Snapshot
from tests.demo.view import View

MANIFEST: Final = Path(__file__).parents[2] / "manifests/examples/demo.yaml"
FAILING_STEP: Final = "migrate"
WAITING_STEP: Final = "wait-for-database"


@dataclass(frozen=True)
class Remark:
    """A line of explanation, printed once, when the condition is first true."""

    text: str
    condition: Callable[[Snapshot], bool]


@dataclass(frozen=True)
class Act:
    """An action that starts a run."""

    title: str
    explanation: str
    do: Callable[[], object]
    trigger: Trigger
    ends_last_run: Result | None
    """The result of the previous run. None for the first run."""
    remarks: tuple[Remark, ...] = ()


class Commentator:
    """Prints the remarks of the present act."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._left: list[Remark] = []

    def begin(self, act: Act) -> None:
        """Print the remarks of this act from now on."""
        self._left = list(act.remarks)

    def changed(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def settled(self, snapshot: Snapshot) -> None:
        """Print the remarks whose condition is true."""
        for remark in [one for one in self._left if one.condition(snapshot)]:
            self._left.remove(remark)
            self._view.note(remark.text)

    def operator_restarted(self, _event: OperatorRestarted, snapshot: Snapshot) -> None:
        """Do nothing."""


def play(act: Act, number: int, observer: Observer, timeout: float) -> None:
    """Perform the action, and wait until its run is Ready. Raise DemoError if it is not."""
    act.do()
    observer.wait(lambda now: now.number >= number, timeout, f"run {number} starts")
    _check_run(act, number, observer)
    observer.wait(
        lambda now: now.number > number or now.ready,
        timeout,
        f"run {number} is initialized and its Pod is Ready",
    )
    _check_run(act, number, observer)


def _check_run(act: Act, number: int, observer: Observer) -> None:
    run = observer.snapshot.status.run
    if run is None or (run.number, run.trigger) != (number, act.trigger):
        actual = f"run {run.number} ({run.trigger})" if run else "no run"
        raise DemoError(f"{actual} started instead of run {number} ({act.trigger})")


def acts(cluster: DemoCluster, observer: Observer, view: View) -> Iterator[Act]:
    """Yield the acts in their order. Acts that are impossible on this cluster are skipped."""
    yield _first(cluster, observer, view)
    if cluster.node:
        yield _sandbox(cluster.node)
    else:
        view.text("")
        view.note("skipped: killing the Pod's sandbox needs access to the node's processes")
    yield _app(cluster)
    yield _pod(cluster)


def manifest() -> list[Raw]:
    """Return the objects of the example."""
    return [one for one in yaml.safe_load_all(MANIFEST.read_text()) if one]


def _first(cluster: DemoCluster, observer: Observer, view: View) -> Act:
    objects = manifest()
    database = [one for one in objects if one["kind"] == "Pod"]

    def apply() -> None:
        cluster.apply([one for one in objects if one not in database])
        observer.wait(
            lambda now: "running" in now.container(WAITING_STEP).get("state", {}),
            cluster.timeout,
            f"step {WAITING_STEP} is running",
        )
        view.note("the step waits for the database, which is created now")
        cluster.apply(database)

    return Act(
        "Four steps before the app may start",
        "kubectl apply -f manifests/examples/demo.yaml; the database follows when step 1 waits",
        apply,
        Trigger.CREATED,
        None,
        (
            Remark(
                "failed once: the kubelet retries immediately, and the pipeline's message has the "
                "step's last output",
                lambda now: _failed(now, 0),
            ),
            Remark(
                "failed twice: the kubelet waits 10 s or a little more before the third attempt "
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


def _sandbox(node: Cluster) -> Act:
    return Act(
        "The Pod's sandbox is killed",
        "the kubelet restarts the whole Pod with the same UID; the condition Initialized of the "
        "Pod stays True meanwhile, that of the pipeline becomes False",
        lambda: node.kill_sandbox(NAMESPACE, PIPELINE),
        Trigger.POD_RESTARTED,
        Result.INITIALIZED,
        (
            Remark(
                "initialized again; the kubelet waits about 10 s before it restarts the app, as "
                "for every terminated container (CrashLoopBackOff)",
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


def _app(cluster: DemoCluster) -> Act:
    return Act(
        "The app container is killed",
        "the kubelet would restart only the app, with the files of the earlier steps; the operator "
        "runs all steps again, in a new Pod",
        cluster.kill_app,
        Trigger.CONTAINER_RESTARTED,
        Result.INITIALIZED,
    )


def _pod(cluster: DemoCluster) -> Act:
    return Act(
        "The Pod is deleted",
        f"kubectl delete pod {PIPELINE} -n {NAMESPACE}; an eviction has the same effect",
        lambda: cluster.kubectl("delete", "pod", PIPELINE, "--wait=false"),
        Trigger.POD_LOST,
        Result.LOST,
        (
            Remark(
                "the second such re-run in a row: the operator waits 10 s (RerunBackOff), the next "
                "time 20 s, up to 5 min",
                lambda now: (
                    now.explanation is not None and now.explanation.reason == Reason.RERUN_BACK_OFF
                ),
            ),
        ),
    )
