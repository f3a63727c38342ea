"""Read conditions and runs from InitPipelines and Pods as the API server returns them."""

from collections.abc import Mapping
from typing import Any

from initpipeline.api.raw import Raw


def condition(status: Mapping[str, Any], type_: str) -> Raw:
    """Return a condition of a status. If it is absent, its fields are ""."""
    absent = {"status": "", "reason": "", "message": ""}
    return next((one for one in status.get("conditions", ()) if one["type"] == type_), absent)


def is_ready(status: Mapping[str, Any]) -> bool:
    """Return whether the condition Ready of a status is True."""
    return bool(condition(status, "Ready")["status"] == "True")


def runs_in(status: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """Return number, trigger and result of all runs in a status, oldest first.

    The result of the current run is "" until it has ended. Before the first run, the list is empty.
    """
    past = [(r["number"], r["trigger"], r["result"]) for r in reversed(status.get("history", []))]
    run = status.get("run")
    if run and run["number"] not in [number for number, _, _ in past]:
        past.append((run["number"], run["trigger"], ""))
    return past


def status_of(state: Raw, type_: str) -> str:
    """Return the status of a condition: "True" or "False". If it is absent, return ""."""
    return _field(state, type_, "status")


def reason_of(state: Raw, type_: str) -> str:
    """Return the reason of a condition. If it is absent, return ""."""
    return _field(state, type_, "reason")


def message_of(state: Raw, type_: str) -> str:
    """Return the message of a condition. If it is absent, return ""."""
    return _field(state, type_, "message")


def has_ready(state: Raw) -> bool:
    """Return whether the condition Ready of an InitPipeline or a Pod is True."""
    return status_of(state, "Ready") == "True"


def is_stalled(state: Raw) -> bool:
    """Return whether the condition Stalled is True."""
    return status_of(state, "Stalled") == "True"


def backs_off(state: Raw) -> bool:
    """Return whether the operator delays the next run."""
    return reason_of(state, "Reconciling") == "RerunBackOff"


def run_number(state: Raw) -> int:
    """Return the number of the current run. Before the first run, return 0."""
    return int(state.get("status", {}).get("run", {}).get("number", 0))


def runs(state: Raw) -> list[tuple[int, str, str]]:
    """Return number, trigger and result of all runs, oldest first.

    The result of the current run is "" until it has ended.
    """
    return runs_in(state.get("status", {}))


def _field(state: Raw, type_: str, field: str) -> str:
    return str(condition(state.get("status", {}), type_)[field])
