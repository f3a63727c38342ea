"""What was told of a pipeline, state after state, as lines that a person can read and compare.

    run 1 Created
    0/2 StepRunning: init container 1 of 2 "one" is running
    2/2 PodReady: the Pod is Ready
    run 1 ended Lost, PodLost: the Pod was deleted
    run 2 PodLost

The API tells the newest state, so a short one may pass unseen: in an expected trace its line begins
with a question mark, and one that may come any number of times, since two states take turns, with
an asterisk. A line that ends with three dots goes on in somebody else's words.
"""

import re
from collections.abc import Iterable, Iterator

from initpipeline.api.reasons import Reason
from tests.watching import Object

ON_THE_WAY = frozenset({Reason.POD_PENDING, Reason.STEP_PENDING, Reason.CONTAINERS_NOT_READY})
"""Reasons of the moments between two states. How many of them are seen is the kubelet's affair."""

HOW_OFTEN = "?*"
OPEN = "..."


def assert_trace(states: Iterable[Object], expected: str) -> None:
    """The states of one pipeline are these and no others, and none contradicts itself."""
    states = [state for state in states if "run" in state.get("status", {})]
    for state in states:
        _assert_consistent(state)
    told = list(_without_repetition(trace(states)))
    wanted = [line.strip() for line in expected.strip().splitlines()]
    pattern = "".join(_pattern(line) for line in wanted)
    text = "".join(f"{line}\n" for line in told)
    assert re.fullmatch(pattern, text), "told:\n" + text + "\nexpected:\n" + "\n".join(wanted)


def trace(states: Iterable[Object]) -> Iterator[str]:
    """The lines that these states of one pipeline amount to."""
    begun, ended = 0, 0
    for state in states:
        status = state["status"]
        for record in reversed(status.get("history", [])):
            if record["number"] > ended:
                ended = record["number"]
                yield _end(record)
        if status["run"]["number"] > begun:
            begun = status["run"]["number"]
            yield f"run {begun} {status['run']['trigger']}"
        yield from _conditions(status)


def _end(record: Object) -> str:
    why = f", {record['reason']}: {record.get('message')}" if "reason" in record else ""
    return f"run {record['number']} ended {record['result']}{why}"


def _conditions(status: Object) -> Iterator[str]:
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    ready = conditions["Ready"]
    if ready["reason"] not in ON_THE_WAY:
        yield f"{status['initProgress']} {ready['reason']}: {ready['message']}"
    if "Stalled" in conditions:
        yield f"Stalled {conditions['Stalled']['reason']}"


def _assert_consistent(state: Object) -> None:
    """Whatever a state tells, its parts tell the same."""
    status = state["status"]
    said = {condition["type"]: condition["status"] for condition in status["conditions"]}
    done, total = status["initProgress"].split("/")
    initialized = said["Initialized"] == "True"
    assert initialized == (done == total), status
    assert initialized == ("currentStep" not in status), status
    assert initialized or said["Ready"] == "False", status
    assert len(status["initContainerStatuses"]) == int(total), status


def _without_repetition(lines: Iterable[str]) -> Iterator[str]:
    """A state that is told again, with the same verdict, is told once."""
    before: dict[bool, str] = {}
    for line in lines:
        if line.startswith("run "):
            before.clear()
        verdict = line.startswith("Stalled ")
        if line != before.get(verdict):
            yield line
        before[verdict] = line


def _pattern(line: str) -> str:
    """How often a line may come is marked as in a regular expression, but before it."""
    how_often = line[0] if line[0] in HOW_OFTEN else ""
    text = re.escape(line.removeprefix(how_often).removesuffix(OPEN))
    rest = ".*" if line.endswith(OPEN) else ""
    return f"(?:{text}{rest}\n){how_often}"
