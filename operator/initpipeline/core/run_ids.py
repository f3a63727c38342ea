"""Identifiers of a run, derived from its pipeline and number.

Nothing is stored: each replica, and each later process, derives the same identifiers.
"""

import hashlib


def run_id(namespace: str, name: str, run: int) -> str:
    """Returns the ID of a run for log lines: ``team-a/demo#3``. A pipeline that is deleted and
    created again has the same IDs, see ``trace_id``."""
    return f"{namespace}/{name}#{run}"


def trace_id(pipeline_uid: str, run: int) -> int:
    """Returns the ID of the run's trace: 128 bits, never 0. It is unique to the pipeline, even if
    another one had the same name before."""
    return _hash(16, "run", pipeline_uid, str(run))


def span_id(trace: int, *what: str) -> int:
    """Returns the ID of a span of the trace: 64 bits, never 0. ``what`` identifies the span within
    its trace."""
    return _hash(8, "span", f"{trace:032x}", *what)


def _hash(size: int, *parts: str) -> int:
    """Returns so many bytes of a hash of the parts, but not 0, which OpenTelemetry reserves."""
    data = b"".join(b"%d:%s" % (len(part), part) for part in (one.encode() for one in parts))
    return int.from_bytes(hashlib.sha256(data).digest()[:size]) or 1
