"""What an upgrade or a downgrade must not change, judged from the objects before and after."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from initpipeline.api.raw import Raw
from tests.upgrade.states import Item, state_of

SAME: Final[Mapping[str, set[str]]] = {"Requested": {"Requested", "Asked"}}
"""The trigger by which each version starts a run, if they differ."""

FACTS: Final = ("number", "trigger", "token", "podUID", "startTime", "completionTime", "result")
"""The fields of a run that the kubelet's progress does not change."""


def violations(before: Item, after: Item | None, *, acted: bool, elapsed: bool) -> Iterator[str]:
    """Yield one sentence for each violation.

    ``acted``: the user has acted as the state provides. ``elapsed``: the next run waited before,
    and its time has come.
    """
    state = state_of(before.name)
    if after is None:
        yield "the InitPipeline is gone"
        return
    due = state.due if acted else ""
    if elapsed and not due:
        due = "PodLost"
    if due:
        yield from _one_run(before, after, due)
    else:
        yield from _no_run(before, after, real=state.real, ages=state.ages)
    yield from history(before, after)
    if not (acted and state.during):
        # A CRD adds the defaults of its own fields, and drops the fields that it does not have.
        spec = after.pipeline["spec"]
        shared = {name: one for name, one in before.pipeline["spec"].items() if name in spec}
        yield from _unchanged("spec", shared, spec)
        generations = [one.pipeline["metadata"]["generation"] for one in (before, after)]
        if generations[0] != generations[1]:
            yield f"metadata.generation was {generations[0]} and is {generations[1]}"


def _one_run(before: Item, after: Item, due: str) -> Iterator[str]:
    number, expected = after.run["number"], before.run["number"] + 1
    if number != expected:
        yield f"the run is {number}, one run is due, so it should be {expected}"
    if after.run["trigger"] not in SAME.get(due, {due}):
        yield f"the trigger is {after.run['trigger']}, not {due}"


def aged(before: Item, after: Item, ages: Mapping[str, str]) -> list[str]:
    """Return the types of the conditions that another one has replaced because time has passed."""
    old, new = _types(before), _types(after)
    return [one for one, later in ages.items() if one in old - new and later in new]


def _types(item: Item) -> set[str]:
    return {one["type"] for one in item.status.get("conditions", [])}


def _no_run(before: Item, after: Item, *, real: bool, ages: Mapping[str, str]) -> Iterator[str]:
    if before.pod_uid != after.pod_uid:
        yield f"the Pod was {before.pod_uid or 'absent'} and is {after.pod_uid or 'absent'}"
    names = FACTS if real else before.run
    run = {name: value for name, value in before.run.items() if name in names}
    yield from _unchanged("status.run", run, after.run)
    conditions = {one["type"]: one for one in after.status.get("conditions", [])}
    for one in before.status.get("conditions", []):
        found = conditions.get(one["type"])
        if one["type"] in aged(before, after, ages):
            continue
        if found is None:
            yield f"the condition {one['type']} is gone"
            continue
        for field in ("status", "lastTransitionTime"):
            if one[field] != found[field] and not real:
                yield f"{field} of the condition {one['type']} was {one[field]}, is {found[field]}"
    for field in ("nextRunTime", "failedRuns", "rerunCount", "lastRerunToken", "futureStatus"):
        if before.status.get(field) not in (None, after.status.get(field)):
            yield f"status.{field} was {before.status[field]}, is {after.status.get(field)}"


def history(before: Item, after: Item) -> Iterator[str]:
    """Yield the entries of history that are lost or changed. A full history loses its oldest."""
    entries = after.status.get("history", [])
    found = {one["number"]: one for one in entries}
    oldest = min(found, default=0)
    full = len(entries) >= after.pipeline["spec"].get("runHistoryLimit", 10)
    for one in before.status.get("history", []):
        if one["number"] in found:
            yield from _unchanged(f"history of run {one['number']}", one, found[one["number"]])
        elif not (full and one["number"] < oldest) and "omitted" not in after.status:
            yield f"the entry of run {one['number']} is gone from history"


def _unchanged(what: str, before: Any, after: Any) -> Iterator[str]:
    """Yield what is lost or differs. Further fields are permitted: a newer version may add some."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name not in after:
                yield f"{what}.{name} is lost, it was {_short(value)}"
            else:
                yield from _unchanged(f"{what}.{name}", value, after[name])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _unchanged(f"{what}[{index}]", one, other)
    elif before != after:
        yield f"{what} was {_short(before)} and is {_short(after)}"


def _short(value: Raw | Any) -> str:
    return str(value)[:80]
