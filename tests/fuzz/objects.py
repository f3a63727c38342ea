"""Generate objects as any user may write them: realistic ones, with some hostile values.

A seed determines the object, so that a failure can be reproduced.
"""

import copy
import functools
import json
from random import Random
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.builders import (
    End,
    PipelineBuilder,
    PodBuilder,
    at,
    fresh_pod,
    pipeline,
    running_pod,
    silent_pod,
)
from tests.pod_shapes import SHAPES
from tests.unit.core.simulation import SimulatedPipeline

_NUMBERS: Final[list[Any]] = [
    0, 1, -1, -5, 2**31 - 1, 2**31, -(2**31), 2**53, 2**63 - 1, 2**63, -(2**63), 10**30, 1e300,
    0.5, True, False,
]  # fmt: skip
_TIMES: Final = [
    "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z",
    "0000-12-31T00:01:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "-0001-01-01T00:00:00Z", "2030-01-01T00:00:00", "2030-01-01", "2030-W01-1", "20300101T000000Z",
    "2030-01-01T00:00:00+99:99", "2030-01-01t00:00:00z", "2030-02-30T00:00:00Z", "1e10", "",
    "2030-01-01T12:00:03.123456789123Z", "1759-03-28T08:04:00Z", "1970-01-01T00:00:00Z",
    "99999999999-01-01T00:00:00Z", "2030-01-01T12:00:09Z", "2030-01-01T12:20:00Z",
]  # fmt: skip
_QUANTITIES: Final = [
    "-1e999990", "1e999990", "1e-999999", "-1e999999", "1" * 20_000 + "..", "1" * 20_000,
    "0." + "3" * 20_000, ".", "", "1e9223372036854775807", "1e-9223372036854775808",
    "1e" + "9" * 5000, "-5", "-1.0001Ki", "100000Ei", " 1 ", "1E", "1Ki", "m", "+.5e+3",
]  # fmt: skip
_TEXTS: Final = [
    "", " ", "9" * 4301, "0", "1", "2", "-1", "\N{SUPERSCRIPT TWO}", "\N{FULLWIDTH DIGIT ONE}",
    "2147483646", "2147483647", "9223372036854775808", "x" * 5000, "\N{LATIN SMALL LETTER E}" * 300,
    "\x00\x1b[31m\n\r\t", "\N{PILE OF POO}" * 400, "Always", "Never", "OnFailure", "True", "False",
    "Unknown", "Succeeded", "Failed", "Pending", "Running", "Evicted", "RestartingAllContainers",
    "CrashLoopBackOff", "ContainerStatusUnknown", "StartError", "RestartAllContainers", "NotIn",
    "one", "two", "app", "Created", "PodLost", "Requested", "..", "a/b", "containerd://x" * 400,
]  # fmt: skip
_STATES: Final[list[Raw]] = [
    {"terminated": {}},
    {"terminated": {"exitCode": -(2**31), "signal": -4, "message": "m" * 100_000}},
    {"terminated": {"exitCode": 0, "finishedAt": "10000-01-01T23:58:59Z", "startedAt": None}},
    {"running": {}, "waiting": {}, "terminated": {"exitCode": 3}},
    {"running": {"startedAt": "0000-12-31T00:01:00Z"}},
    {"waiting": {"reason": "R" * 5000, "message": "M" * 5000}},
    {"waiting": None},
    {},
]
_SHAPES: Final[list[Any]] = [None, [], {}, [None], [[]], [{}], {"": None}, "", [""], {"name": 5}]


def pipeline_object(random: Random) -> Raw:
    """Return an InitPipeline, with a status that the operator or another client wrote."""
    raw = _lived(random).raw()
    if random.random() < 0.3:
        raw["spec"]["template"] = {"spec": random.choice(list(SHAPES.values())).spec}
    if random.random() < 0.3:
        raw["metadata"]["annotations"][names.RERUN_ANNOTATION] = _text(random)
    return _hostile(raw, random)


def pod_object(random: Random) -> Raw:
    """Return a Pod with the pipeline's name. The pipeline need not own it."""
    raw = _pod(random).raw()
    if random.random() < 0.3:
        raw["metadata"]["annotations"][names.RUN_ANNOTATION] = _text(random)
    for key in ("initContainerStatuses", "containerStatuses"):
        for status in raw["status"].get(key, ()):
            if random.random() < 0.2:
                status[random.choice(["state", "lastState"])] = copy.deepcopy(
                    random.choice(_STATES)
                )
            if random.random() < 0.1:
                status["restartCount"] = random.choice(_NUMBERS)
    return _hostile(raw, random)


def watch_line(random: Random) -> bytes:
    """Return a line of a watch response with one of these objects."""
    raw = random.choice([pipeline_object, pod_object])(random)
    type_ = random.choice(["ADDED", "MODIFIED", "DELETED"])
    line = json.dumps({"type": type_, "object": raw}, separators=(",", ":")).encode()
    if random.random() < 0.05:
        levels = random.choice([50, 200, 1000, 9000])
        deep = b'{"f:a":[' * levels + b"]}" * levels
        line = line.replace(b'"metadata":{', b'"metadata":{"managedFields":[' + deep + b"],", 1)
    if random.random() < 0.01:
        line = line.replace(b'"spec":{"', b'"spec":{"x":"' + b"y" * 200_000 + b'","', 1)
    return line


def _lived(random: Random) -> PipelineBuilder:
    """Return a pipeline that was reconciled a few times: one of 300, since they are expensive."""
    return _life(random.randrange(300))


@functools.cache
def _life(number: int) -> PipelineBuilder:
    random = Random(number)
    world = SimulatedPipeline(pipeline().policy(**_policies(random)))
    for seconds in range(0, 30 * random.randrange(4), 30):
        world = world.reconcile(random.choice([None, _pod(random, 1)]), seconds)
    return world.pipeline


def _policies(random: Random) -> Raw:
    policies: Raw = {}
    if random.random() < 0.5:
        policies["rerunPolicy"] = random.choice(["OnRestart", "OnPodLoss", "Never"])
    if random.random() < 0.3:
        policies["rerunStrategy"] = "InPlace"
    if random.random() < 0.3:
        policies["backoffLimit"] = random.choice([0, 3, 2**31 - 1])
    if random.random() < 0.3:
        policies["initDeadlineSeconds"] = random.choice([1, 60, 2**31 - 1])
    if random.random() < 0.3:
        policies["initPolicies"] = [{"name": "one", "timeoutSeconds": 2**31 - 1, "maxRestarts": 1}]
    if random.random() < 0.2:
        policies["ttlSecondsAfterFinished"] = random.choice([0, 2**31 - 1])
    if random.random() < 0.2:
        policies["suspend"] = True
    return policies


def _pod(random: Random, run: int | None = None) -> PodBuilder:
    run = run or random.choice([1, 1, 2, None])
    last = random.choice([None, End(1), End(0), End(137, reason="OOMKilled")])
    return random.choice(
        [
            fresh_pod(1).of_run(run),
            fresh_pod(1),
            running_pod(1),
            silent_pod(1),
            fresh_pod(1).init("one", exit=1, restarts=2, last=last),
            fresh_pod(1).initialized("one").init("two", running=True, restarts=1, last=last),
            running_pod(1).app(exit=1, restarts=1, last=last).phase("Failed"),
            running_pod(1).app(exit=0).phase("Succeeded"),
        ]
    )


def _hostile(raw: Raw, random: Random) -> Raw:
    """Return the object with some values replaced, mostly by values of the same type."""
    kept = json.loads(json.dumps(raw))
    for _ in range(random.choice([0, 1, 1, 2, 4, 8])):
        _change(kept, random)
    # The API server sets names and versions.
    for key in ("name", "namespace", "uid", "resourceVersion", "generation"):
        if key in raw["metadata"]:
            metadata = kept["metadata"] if isinstance(kept.get("metadata"), dict) else {}
            kept["metadata"] = {**metadata, key: raw["metadata"][key]}
    return dict(kept)


def _change(root: Raw, random: Random) -> None:
    at_: Any = root
    while True:
        keys: list[Any] = list(at_) if isinstance(at_, dict) else list(range(len(at_)))
        if not keys:
            return
        key = random.choice(keys)
        inner = at_[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.9:
            at_ = inner
            continue
        break
    what = random.random()
    if what < 0.1 and isinstance(at_, dict):
        del at_[key]
    elif what < 0.2 and isinstance(at_, list):
        at_ += [copy.deepcopy(inner) for _ in range(random.choice([1, 3, 300]))]
    elif what < 0.3:
        at_[key] = copy.deepcopy(random.choice(_SHAPES))
    else:
        at_[key] = _like(str(key), inner, random)


def _like(key: str, value: Any, random: Random) -> Any:
    if key.endswith(("Time", "At", "Timestamp")):
        return random.choice(_TIMES)
    if key in {"cpu", "memory"} or "/" in key:
        return random.choice(_QUANTITIES)
    if isinstance(value, int | float):
        return random.choice(_NUMBERS)
    return _text(random)


def _text(random: Random) -> str:
    return random.choice(random.choice([_TEXTS, _TEXTS, _TIMES, _QUANTITIES]))


NOW: Final = at(100)
