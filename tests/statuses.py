"""Read conditions and runs from InitPipelines and Pods as the API server returns them."""

from typing import Any

Object = dict[str, Any]


def status_of(state: Object, condition: str) -> str:
    """Return the status of a condition: "True" or "False". If it is absent, return ""."""
    return _field(state, condition, "status")


def reason_of(state: Object, condition: str) -> str:
    """Return the reason of a condition. If it is absent, return ""."""
    return _field(state, condition, "reason")


def message_of(state: Object, condition: str) -> str:
    """Return the message of a condition. If it is absent, return ""."""
    return _field(state, condition, "message")


def run_number(state: Object) -> int:
    """Return the number of the current run. Before the first run, return 0."""
    return int(state.get("status", {}).get("run", {}).get("number", 0))


def runs(state: Object) -> list[tuple[int, str, str]]:
    """Return number, trigger and result of all runs, oldest first.

    The result of the current run is "" until it has ended.
    """
    status = state.get("status", {})
    past = [(r["number"], r["trigger"], r["result"]) for r in reversed(status.get("history", []))]
    run = status["run"]
    current = [] if past and past[-1][0] == run["number"] else [(run["number"], run["trigger"], "")]
    return past + current


def _field(state: Object, condition: str, field: str) -> str:
    conditions = state.get("status", {}).get("conditions", ())
    return next((str(one[field]) for one in conditions if one["type"] == condition), "")
