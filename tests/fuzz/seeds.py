"""Seeds of objects that once violated a property. make fuzz prints such seeds."""

from typing import Final

SEEDS: Final[tuple[tuple[str, int], ...]] = (
    ("pod", 55),  # a restart count beyond 32 bits
    ("pipeline", 216),  # a template that is not that of a Pod
    ("pod", 544),  # a phase that is a list
    ("pipeline", 624),  # a Pod without init containers
    ("pod", 4327),  # an empty container
    ("pod", 10006),  # two containers of one name
    ("pipeline", 10041),  # a condition with an unknown reason
    ("pod", 31738),  # a time that is a week
    ("pipeline", 210573),  # the last number of a run
    ("pipeline", 83226),  # the current run is also in history
)
