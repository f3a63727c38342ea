"""Assigns objects to shards, and shards to replicas. All functions are pure.

An InitPipeline has a bucket: the value of a label, which an admission policy sets when the
InitPipeline is created, and keeps. A shard is a set of buckets. The number of shards can change,
and no object is written for that. An object without the label, or with another value, belongs to
shard 0.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api.names import BUCKET_LABEL

BUCKETS: Final = tuple("0123456789abcdef")
"""All values of BUCKET_LABEL. More shards than this cannot exist."""

NOTHING: Final = f"{BUCKET_LABEL},!{BUCKET_LABEL}"
"""A label selector that matches no object."""

_NUMBERS: Final = {bucket: number for number, bucket in enumerate(BUCKETS)}


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of all. If there is only one, all objects belong to it."""

    number: int = 0
    count: int = 1

    @property
    def selector(self) -> str:
        """The label selector of its objects. "": all objects."""
        return selector([self.number], self.count)

    def selects(self, raw: Mapping[str, Any]) -> bool:
        """Returns whether the API object belongs to the shard."""
        return shard_of(raw, self.count) == self.number


def shard_of(raw: Mapping[str, Any], count: int) -> int:
    """Returns the number of the shard of an API object, if there are ``count`` shards."""
    labels = raw["metadata"].get("labels") or {}
    return _NUMBERS.get(labels.get(BUCKET_LABEL, ""), 0) % count


def selector(shards: Collection[int], count: int) -> str:
    """Returns the label selector of the objects of these shards. "": all objects."""
    if len(shards) == count:
        return ""
    if not shards:
        return NOTHING
    inside = [bucket for bucket in BUCKETS if _NUMBERS[bucket] % count in shards]
    if 0 not in shards:
        return f"{BUCKET_LABEL} in ({','.join(inside)})"
    # This also selects the objects without the label.
    outside = [bucket for bucket in BUCKETS if bucket not in inside]
    return f"{BUCKET_LABEL} notin ({','.join(outside)})"


def owners(replicas: Collection[str], count: int) -> dict[int, str]:
    """Returns the replica that serves each shard. Empty if there is no replica.

    The numbers of shards of any two replicas differ by at most one. Each shard goes to the replica
    with the highest score for it, among those that may have one more (rendezvous hashing with
    bounded loads). Therefore only a few shards move when a replica starts or ends.
    """
    owned: dict[str, int] = dict.fromkeys(sorted(replicas), 0)
    if not owned:
        return {}
    least, more = divmod(count, len(owned))
    result = {}
    for shard in range(count):
        full = least + (more > 0)
        free = [replica for replica, number in owned.items() if number < full]
        chosen = max(free, key=lambda replica: _score(replica, shard))
        owned[chosen] += 1
        more -= owned[chosen] > least
        result[shard] = chosen
    return result


def _score(replica: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{replica}/{shard}".encode(), digest_size=8).digest()
