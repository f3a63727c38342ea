"""Compares the model with recordings of a real kubelet, scheduler and API server.

Each recording of tests/traces is played on the model: the events that happened to the Pod, and what
the kubelet did next. The comparison covers all that the operator reads. The model must report every
recorded state, in the same order. A real kubelet may write two changes in one status. The model
writes each. So it may report one more state before each recorded one and after the last, but not
two. Pending and Running count as the same state, since the operator does not read the difference.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.model.cluster import Cluster
from tests.unit.model.kubelet import ENDED
from tests.unit.runtime.fake_api import PODS

RECORDED = Path(__file__).parents[2] / "traces" / "recorded"

Play = Callable[["Stage"], None]


class Stage(Cluster):
    """The model, and the actions of a play."""

    def settle(self) -> None:
        """Lets the kubelet work until there is nothing to do."""
        while self.node_step():
            pass

    def ends(self, *names: str) -> None:
        """Ends these containers successfully, in this order."""
        for name in names:
            self.fails(name, 0)

    def fails(self, name: str, code: int = 1) -> None:
        self.clock.seconds += 1
        self._kubelet.exits(name, code)
        self.settle()

    def crashes(self, name: str, code: int = 137) -> None:
        self.fails(name, code)

    def waits(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.settle()

    def loses_sandbox(self) -> None:
        self.clock.seconds += 2
        self._kubelet.sandbox_dies()
        self.settle()

    def loses_power(self) -> None:
        self.clock.seconds += 15
        self._kubelet.node_reboots()
        self.settle()

    def is_deleted(self) -> None:
        self.api.delete(PODS)
        self._terminates()

    def is_evicted(self) -> None:
        self.disrupt()
        self._terminates()

    def has_no_image(self, name: str) -> None:
        self._kubelet.missing.add(name)

    def exceeds_its_storage(self) -> None:
        self._kubelet.evicts_for_its_own_fault()

    def _terminates(self) -> None:
        while self.node_step(exit_code=3):
            pass

    @property
    def _kubelet(self) -> Any:
        assert self.kubelet is not None, "the Pod has no node"
        return self.kubelet


def play(*actions: tuple[Any, ...]) -> Play:
    """Returns a play of these actions, each a method of Stage with its arguments."""

    def played(stage: Stage) -> None:
        for action, *arguments in actions:
            getattr(stage, action)(*arguments)

    return played


INITIALIZED = ("ends", "one", "two")

PLAYS: Mapping[str, Play] = {
    "sandbox-killed": play(INITIALIZED, ("loses_sandbox",), INITIALIZED),
    "sandbox-killed-mid-init": play(("ends", "one"), ("loses_sandbox",), INITIALIZED),
    "sandbox-killed-with-sidecars": play(INITIALIZED, ("loses_sandbox",), INITIALIZED),
    "sandbox-killed-for-good": play(INITIALIZED, ("loses_sandbox",)),
    "node-rebooted": play(INITIALIZED, ("loses_power",), INITIALIZED),
    "node-rebooted-mid-init": play(("ends", "one"), ("loses_power",), INITIALIZED),
    "app-exits": play(
        INITIALIZED, ("fails", "app", 7), ("fails", "app", 7), ("waits", 10), ("fails", "app", 7)
    ),
    "app-fails-for-good": play(INITIALIZED, ("fails", "app", 3)),
    "step-fails-then-succeeds": play(
        ("ends", "one"), ("fails", "two"), ("fails", "two"), ("waits", 10), ("ends", "two")
    ),
    "step-fails-on-failure": play(("ends", "one"), ("fails", "two"), ("ends", "two", "app")),
    "step-fails-for-good": play(("ends", "one"), ("fails", "two", 3)),
    "succeeds": play(INITIALIZED, ("ends", "app")),
    "sidecars-crash": play(
        ("ends", "one"), ("crashes", "early"), ("ends", "two"), ("crashes", "late")
    ),
    "restarted-in-place": play(INITIALIZED, ("fails", "app", 7), INITIALIZED),
    "deleted-mid-init": play(("ends", "one"), ("is_deleted",)),
    "deleted-running": play(INITIALIZED, ("is_deleted",)),
    "evicted": play(INITIALIZED, ("is_evicted",)),
    "over-its-storage": play(("ends", "one"), ("exceeds_its_storage",)),
    "image-missing": play(("has_no_image", "two"), ("ends", "one")),
}


def recording(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def test_each_recording_is_played() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == {*PLAYS, "unschedulable"}


@pytest.mark.parametrize("name", PLAYS)
def test_kubelet_matches_recording(name: str) -> None:
    recorded = recording(name)
    stage = Stage()
    stage.create_pod(recorded["spec"], uid="pod")
    stage.schedule()
    stage.settle()
    PLAYS[name](stage)
    compare(read_states(recorded["states"]), read_states(states_of(stage)))


def test_scheduler_matches_recording() -> None:
    recorded = recording("unschedulable")
    stage = Stage()
    stage.create_pod(recorded["spec"], uid="pod")
    stage.find_no_node()
    stage.is_deleted()
    compare(read_states(recorded["states"]), read_states(states_of(stage)))


def compare(recorded: Sequence[str], modelled: Sequence[str]) -> None:
    at = 0
    for number, state in enumerate(recorded):
        near = modelled[at : at + (1 if number == 0 else 2)]
        assert state in near, f"state {number} was\n  {state}\nand that of the model is\n  " + (
            "\n  ".join(near)
        )
        at += near.index(state) + 1
    assert at >= len(modelled) - 1, f"the model has further states: {modelled[at:]}"


def states_of(stage: Stage) -> Iterator[Mapping[str, Any]]:
    for event in stage.api.events:
        yield {**event.object, "event": event.type}


def read_states(states: Any) -> list[str]:
    """Returns what the operator reads of each state that differs from the one before."""
    numbers: dict[str, int] = {}
    result: list[str] = []
    for state in states:
        read = _read(state, numbers)
        if result[-1:] != [read]:
            result.append(read)
    return result


def _read(state: Mapping[str, Any], numbers: dict[str, int]) -> str:
    status = state["status"]
    conditions = sorted(f"{c['type']}={c['status']}" for c in status.get("conditions", ()))
    containers = [
        _container(one, numbers)
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in status.get(kind, ())
    ]
    deleting = "deleting" if "deletionTimestamp" in state["metadata"] else ""
    gone = "gone" if state["event"] == "DELETED" else ""
    phase = status["phase"] if status["phase"] in ENDED else "alive"
    parts = [gone, deleting, phase, status.get("reason", ""), *conditions, *containers]
    return " ".join(part for part in parts if part)


def _container(status: Mapping[str, Any], numbers: dict[str, int]) -> str:
    """Returns what the operator reads of a container status. Containers are numbered in the order
    of their first report."""
    id_ = status.get("containerID", "")
    number = numbers.setdefault(id_, len(numbers) + 1) if id_ else "-"
    ((kind, state),) = status["state"].items()
    last = (status.get("lastState") or {}).get("terminated")
    return (
        f"{status['name']}#{number}[{kind} {_end(state)}; last {_end(last)}; "
        f"restarts {status['restartCount']}; started {status['started']}; ready {status['ready']}]"
    )


def _end(state: Mapping[str, Any] | None) -> str:
    return (
        "-" if state is None else f"{state.get('exitCode', '')} {state.get('reason', '')}".strip()
    )
