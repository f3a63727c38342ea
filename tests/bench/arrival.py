"""How the objects of a measurement arrive."""

from dataclasses import dataclass
from enum import StrEnum


class Pace(StrEnum):
    """When the load generator creates the next object."""

    BURST = "burst"
    """As soon as the API server has answered one of the parallel requests."""
    STEADY = "steady"
    """At fixed times, whether or not the previous requests have been answered."""
    ALONE = "alone"
    """A moment after the Pod of the previous object was created."""


@dataclass(frozen=True)
class Arrival:
    """A number of objects, and the times at which they are created."""

    pace: Pace
    objects: int
    per_second: float = 0.0
    """The rate, for a steady pace."""

    @property
    def seconds(self) -> float:
        """The time that the creation takes regardless of the controller."""
        return self.objects / self.per_second if self.pace is Pace.STEADY else 0.0

    @property
    def title(self) -> str:
        """A description for tables and messages."""
        if self.pace is Pace.BURST:
            return f"{self.objects:,} at once"
        if self.pace is Pace.STEADY:
            return f"{self.per_second:g} a second"
        return "one at a time"
