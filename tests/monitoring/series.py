"""The series of the operator, and what an expression of PromQL uses of them."""

import re
from typing import Final

from initpipeline.runtime.metrics import described

PROCESS: Final = {
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
"""The metrics of prometheus_client that are used."""
TARGET_LABELS: Final = {"namespace", "pod", "job", "instance"}
"""Labels that Prometheus sets for a target."""
SUFFIXES: Final = ("_bucket", "_count", "_sum")
SELECTOR: Final = re.compile(
    r"\b((?:initpipeline|workqueue|rest_client|leader_election|process)_\w+)(?:\{([^}]*)\})?"
)
GROUPING: Final = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")


def declared() -> dict[str, set[str]]:
    """Returns the labels of each series of the operator."""
    found: dict[str, set[str]] = {name: set() for name in PROCESS}
    for name, kind, labels, _ in described():
        if kind == "histogram":
            for suffix in SUFFIXES:
                extra = {"le"} if suffix == "_bucket" else set()
                found[name + suffix] = {*labels, *extra}
        else:
            found[name] = set(labels)
    return found


def used(expression: str) -> set[str]:
    """Returns the series that the expression selects by name."""
    return {name for name, _ in SELECTOR.findall(expression)}


def unknown(expression: str) -> set[str]:
    """Returns the series and labels of the expression that neither the operator nor Prometheus
    sets. Raises ValueError if it selects no series of the operator."""
    series = declared()
    selected = SELECTOR.findall(expression)
    if not selected:
        raise ValueError(f"no series of the operator: {expression}")
    found = {name for name, _ in selected} - series.keys()
    known = TARGET_LABELS.union(*(series.get(name, set()) for name, _ in selected))
    for name, matchers in selected:
        labels = set(re.findall(r"(\w+)(?:=|!)", re.sub(r'"[^"]*"', '""', matchers)))
        found |= labels - series.get(name, set()) - TARGET_LABELS
    for group in GROUPING.findall(expression):
        found |= {label.strip() for label in group.split(",")} - known
    return found
