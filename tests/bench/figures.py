"""The rows of the table: each figure's key, title and unit."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Figure:
    """One row. Less is better, unless the title states otherwise. Empty rows are omitted."""

    key: str
    title: str
    decimals: int
    absent: float | None = None
    """The value of a measurement without this figure. None: it was not measured."""
    always: bool = False
    """Print the row even if all values are zero."""


FIGURES: Final = (
    Figure("pod_p50_ms", "request -> Pod, p50, ms", 0),
    Figure("pod_p99_ms", "request -> Pod, p99, ms", 0),
    Figure("post_p50_ms", "  share of the POST, p50, ms", 0),
    Figure("pods_per_second", "Pods per second (more is better)", 0),
    Figure("all_finished_s", "all finished, s", 1),
    Figure("initialized_lag_p50_ms", "mirror lag, initialized, p50, ms", 0),
    Figure("initialized_lag_p99_ms", "mirror lag, initialized, p99, ms", 0),
    Figure("finished_lag_p50_ms", "mirror lag, finished, p50, ms", 0),
    Figure("finished_lag_p99_ms", "mirror lag, finished, p99, ms", 0),
    Figure("controller_cpu_ms", "controller CPU per object, ms", 2),
    Figure("api_server_cpu_ms", "API server CPU per object, ms", 1),
    Figure("controller_mib", "controller resident, MiB", 0),
    Figure("requests", "API requests per object", 2),
    Figure("own_writes", "  writes to the object and its status", 2),
    Figure("create_requests", "  create", 2, absent=0),
    Figure("update_requests", "  update", 2, absent=0),
    Figure("patch_requests", "  patch", 2, absent=0),
    Figure("delete_requests", "  delete", 2, absent=0),
    Figure("get_requests", "  get", 2, absent=0),
    Figure("list_requests", "  list", 2, absent=0),
    Figure("watch_requests", "  watch", 2, absent=0),
    Figure("conflicts", "conflicts (409)", 0, always=True),
    Figure("other_errors", "other errors", 0, always=True),
    Figure("rest_controller_cpu_ms", "at rest: controller CPU per minute, ms", 0),
    Figure("rest_api_server_cpu_ms", "at rest: API server CPU per minute, ms", 0),
    Figure("rest_requests", "at rest: API requests per minute", 0, always=True),
)
