"""The model says what a real kubelet, scheduler and API server said.

Each recording of tests/traces is played on the model: what befell the Pod, and as often as nothing
does, what the kubelet does by itself. Compared is all that the operator reads, and the model must
say every word that was recorded, in the same order. A real kubelet writes what it finds, when it
gets to it: two changes may be in one status. So the model, which writes each, may say one word more
before each that was recorded, and after the last, but not two. Pending and Running, which a
kubelet may say of the same state and nobody reads, are not told apart.
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
    """The model, and the verbs of a play."""

    def settle(self) -> None:
        """The kubelet does all that it can by itself."""
        while self.node_step():
            pass

    def ends(self, *names: str) -> None:
        """These containers succeed, in that order."""
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
        self._goes()

    def is_evicted(self) -> None:
        self.disrupt()
        self._goes()

    def has_no_image(self, name: str) -> None:
        self._kubelet.missing.add(name)

    def exceeds_its_storage(self) -> None:
        self._kubelet.evicts_for_its_own_fault()

    def _goes(self) -> None:
        while self.node_step(exit_code=3):
            pass

    @property
    def _kubelet(self) -> Any:
        assert self.kubelet is not None, "the Pod has no node"
        return self.kubelet


def play(*verbs: tuple[Any, ...]) -> Play:
    """These verbs of the stage, each with what it is said with, in turn."""

    def played(stage: Stage) -> None:
        for verb, *said in verbs:
            getattr(stage, verb)(*said)

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


def test_every_recording_is_played() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == {*PLAYS, "unschedulable"}


@pytest.mark.parametrize("name", PLAYS)
def test_the_kubelet(name: str) -> None:
    recorded = recording(name)
    stage = Stage()
    stage.create_pod(recorded["spec"], uid="pod")
    stage.schedule()
    stage.settle()
    PLAYS[name](stage)
    compare(words(recorded["states"]), words(said(stage)))


def test_the_scheduler() -> None:
    recorded = recording("unschedulable")
    stage = Stage()
    stage.create_pod(recorded["spec"], uid="pod")
    stage.find_no_node()
    stage.is_deleted()
    compare(words(recorded["states"]), words(said(stage)))


def compare(recorded: Sequence[str], modelled: Sequence[str]) -> None:
    at = 0
    for number, word in enumerate(recorded):
        near = modelled[at : at + (1 if number == 0 else 2)]
        assert word in near, f"word {number} was\n  {word}\nand the model says\n  " + "\n  ".join(
            near
        )
        at += near.index(word) + 1
    assert at >= len(modelled) - 1, f"the model goes on: {modelled[at:]}"


def said(stage: Stage) -> Iterator[Mapping[str, Any]]:
    for event in stage.api.events:
        yield {**event.object, "event": event.type}


def words(states: Any) -> list[str]:
    """What the operator reads of each state, where it is not the same as before."""
    numbers: dict[str, int] = {}
    result: list[str] = []
    for state in states:
        word = _word(state, numbers)
        if result[-1:] != [word]:
            result.append(word)
    return result


def _word(state: Mapping[str, Any], numbers: dict[str, int]) -> str:
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
    """Its containers are numbered in the order in which they were first told of."""
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
