"""Describe the states of a pipeline as readable lines, and compare them with expected lines.

    run 1 Created
    0/2 StepRunning: init container 1 of 2 "one" is running
    2/2 PodReady: the Pod is Ready
    run 1 ended Lost, PodLost: the Pod was deleted
    run 2 PodLost

The operator reports the newest state, so it may skip a short one. In an expected trace, the line of
a state that may be missing begins with a question mark. A line that may occur any number of times
begins with an asterisk. A line that ends with three dots matches any continuation.
"""

import re
from collections.abc import Iterable, Iterator

from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason

TRANSITIONAL = frozenset({Reason.POD_PENDING, Reason.STEP_PENDING, Reason.CONTAINERS_NOT_READY})
"""Reasons of short states that the kubelet may or may not report. Traces omit them."""

QUANTIFIERS = "?*"
ANY_CONTINUATION = "..."


def assert_trace(states: Iterable[Raw], expected: str) -> None:
    """Assert that the trace of one pipeline's states matches, and that each state is consistent."""
    states = [state for state in states if "run" in state.get("status", {})]
    for state in states:
        _assert_consistent(state)
    actual = "".join(f"{line}\n" for line in _without_repetition(trace(states)))
    wanted = [line.strip() for line in expected.strip().splitlines()]
    pattern = "".join(_pattern(line) for line in wanted)
    assert re.fullmatch(pattern, actual), f"actual:\n{actual}\nexpected:\n" + "\n".join(wanted)


def trace(states: Iterable[Raw]) -> Iterator[str]:
    """Yield the lines that describe these states of one pipeline."""
    started, ended = 0, 0
    for state in states:
        status = state["status"]
        for record in reversed(status.get("history", [])):
            if record["number"] > ended:
                ended = record["number"]
                if not started:  # The first status may record a run that has ended already.
                    started = ended
                    yield f"run {started} {record['trigger']}"
                yield _end(record)
        if status["run"]["number"] > started:
            started = status["run"]["number"]
            yield f"run {started} {status['run']['trigger']}"
        yield from _conditions(status)


def _end(record: Raw) -> str:
    why = f", {record['reason']}: {record.get('message')}" if "reason" in record else ""
    return f"run {record['number']} ended {record['result']}{why}"


def _conditions(status: Raw) -> Iterator[str]:
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    ready = conditions["Ready"]
    if ready["reason"] not in TRANSITIONAL:
        yield f"{status['initProgress']} {ready['reason']}: {ready['message']}"
    if "Stalled" in conditions:
        yield f"Stalled {conditions['Stalled']['reason']}"


def _assert_consistent(state: Raw) -> None:
    """Assert that the fields of a status do not contradict each other."""
    status = state["status"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    done, total = status["initProgress"].split("/")
    initialized = conditions["Initialized"] == "True"
    assert initialized == (done == total), status
    assert initialized == ("currentStep" not in status), status
    assert initialized or conditions["Ready"] == "False", status
    assert len(status["initContainerStatuses"]) == int(total), status


def _without_repetition(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines without those that repeat the previous state or the previous Stalled line."""
    before: dict[bool, str] = {}
    for line in lines:
        if line.startswith("run "):
            before.clear()
        stalled = line.startswith("Stalled ")
        if line != before.get(stalled):
            yield line
        before[stalled] = line


def _pattern(line: str) -> str:
    """Return a regular expression for a line of an expected trace."""
    quantifier = line[0] if line[0] in QUANTIFIERS else ""
    text = re.escape(line.removeprefix(quantifier).removesuffix(ANY_CONTINUATION))
    rest = ".*" if line.endswith(ANY_CONTINUATION) else ""
    return f"(?:{text}{rest}\n){quantifier}"
