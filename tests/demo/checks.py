"""What the demo claims, checked in the end. A check is a claim, and why it does not hold, if so."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.reasons import ConditionType
from tests.demo import manifests
from tests.demo.api import collection
from tests.demo.errors import DemoError
from tests.demo.journal import Journal
from tests.demo.place import APP, NAMESPACE, PIPELINE, Place
from tests.demo.scenario import FAILING_STEP, Act
from tests.demo.snapshot import Snapshot
from tests.demo.world import World

FAILURES: Final = 2
EVIDENCE: Final = "cannot migrate: the schema is locked"
MIRROR_SECONDS: Final = 10.0
PORT: Final = 8080
SECRET_FILE: Final = "/secret/password"


@dataclass(frozen=True)
class Check:
    """One claim."""

    claim: str
    problem: str | None


Rule = Callable[[], str | None]


@dataclass(frozen=True)
class Evidence:
    """All that the claims are checked on."""

    place: Place
    world: World
    journal: Journal
    acts: Sequence[Act]

    @property
    def now(self) -> Snapshot:
        """As things are."""
        return self.world.snapshot


def all_checks(evidence: Evidence) -> Iterator[Check]:
    """One after the other, each made when it is asked for."""
    for claim, rule in _rules(evidence):
        try:
            yield Check(claim, rule())
        except DemoError as error:
            yield Check(claim, str(error))


def after_first_run(evidence: Evidence) -> Iterator[Check]:
    """What only the first run's Pod can show."""
    claim = f"step {FAILING_STEP} failed {FAILURES} times, and its evidence is in the status"
    if not _told(evidence) and evidence.journal.run(1).unwatched:
        claim += " (in no condition: the operator was away)"
    yield Check(claim, _evidence_mirrored(evidence))


def _rules(evidence: Evidence) -> list[tuple[str, Rule]]:
    acts = evidence.acts
    numbers = ", ".join(str(number) for number in range(1, len(acts) + 1))
    results = ", ".join(act.ends_last_run for act in acts if act.ends_last_run)
    return [
        (f"the runs are {numbers}, each once", lambda: _numbers(evidence)),
        (f"triggered by {', '.join(act.trigger for act in acts)}", lambda: _triggers(evidence)),
        (f"those in history ended as {results}", lambda: _results(evidence)),
        (
            f"Initialized was False during each re-run{_unseen(evidence)}, and is True now",
            lambda: _initialized(evidence),
        ),
        ("initContainerStatuses are the Pod's, field by field", lambda: _mirror(evidence)),
        ("there is exactly one Pod", lambda: _one_pod(evidence)),
        ("the app serves what step render-config wrote", lambda: _served(evidence.place)),
        ("step login had the Secret, the app has not", lambda: _secret_kept(evidence.place)),
    ]


def _runs(now: Snapshot) -> list[Any]:
    """All of them, oldest first."""
    return [*reversed(now.status.history), *([now.status.run] if now.status.run else [])]


def _numbers(evidence: Evidence) -> str | None:
    if evidence.journal.breaches:
        return evidence.journal.breaches[0]
    wanted = list(range(1, len(evidence.acts) + 1))
    return _differs([run.number for run in _runs(evidence.now)], wanted)


def _triggers(evidence: Evidence) -> str | None:
    found = [str(run.trigger) for run in _runs(evidence.now)]
    return _differs(found, [str(act.trigger) for act in evidence.acts])


def _results(evidence: Evidence) -> str | None:
    found = [str(record.result) for record in reversed(evidence.now.status.history)]
    return _differs(found, [str(act.ends_last_run) for act in evidence.acts if act.ends_last_run])


def _never_false(evidence: Evidence) -> list[int]:
    """The re-runs in which Initialized was not seen False."""
    reruns = range(2, len(evidence.acts) + 1)
    return [number for number in reruns if not evidence.journal.run(number).uninitialized]


def _unseen(evidence: Evidence) -> str:
    """An operator that was killed may have come back when all was over: that is no fault, but to
    claim what was not seen would be one."""
    unseen = [n for n in _never_false(evidence) if evidence.journal.run(n).unwatched]
    runs = ", ".join(map(str, unseen))
    return f" (not seen in run {runs}: the operator was away)" if unseen else ""


def _initialized(evidence: Evidence) -> str | None:
    for number in _never_false(evidence):
        if not evidence.journal.run(number).unwatched:
            return f"it was never seen False in run {number}"
    if not evidence.now.holds(ConditionType.INITIALIZED):
        return "it is not True"
    return None


def _evidence_mirrored(evidence: Evidence) -> str | None:
    now, seen = evidence.now, evidence.journal.run(1)
    mirror = next(s for s in now.status.init_container_statuses if s["name"] == FAILING_STEP)
    if mirror["restartCount"] != FAILURES:
        return f"it was restarted {mirror['restartCount']} times"
    last = mirror["lastState"].get("terminated", {})
    if last.get("exitCode") != 1 or EVIDENCE not in last.get("message", ""):
        return f"its last state is {last}"
    if not _told(evidence) and not seen.unwatched:
        return f"no condition told of it, but {sorted(seen.failures)}"
    return None


def _told(evidence: Evidence) -> bool:
    """Whether a condition told of the failure while it was one."""
    words = evidence.journal.run(1).failures
    return any("exited with 1" in one and EVIDENCE in one for one in words)


def _mirror(evidence: Evidence) -> str | None:
    """The kubelet may have the last word a moment before the operator repeats it."""
    try:
        evidence.world.wait(lambda now: not _unlike_pod(now), MIRROR_SECONDS, "they are the same")
    except DemoError:
        return _unlike_pod(evidence.now)
    return None


def _unlike_pod(now: Snapshot) -> str | None:
    if now.pod is None:
        return "there is no Pod"
    said = now.pod["status"].get("initContainerStatuses", [])
    mirrored = ((now.pipeline or {}).get("status") or {}).get("initContainerStatuses", [])
    return difference(mirrored, said, "initContainerStatuses")


def difference(mine: Any, its: Any, path: str) -> str | None:
    """The first place at which two documents are not the same."""
    if isinstance(mine, dict) and isinstance(its, dict):
        keys = sorted(mine.keys() | its.keys())
        parts = ((mine.get(key), its.get(key), f"{path}.{key}") for key in keys)
    elif isinstance(mine, list) and isinstance(its, list) and len(mine) == len(its):
        pairs = enumerate(zip(mine, its, strict=True))
        parts = ((left, right, f"{path}[{index}]") for index, (left, right) in pairs)
    else:
        return None if mine == its else f"{path} is {mine!r}, the Pod's is {its!r}"
    return next(filter(None, (difference(*part) for part in parts)), None)


def _one_pod(evidence: Evidence) -> str | None:
    """Asked of the API server, and by owner: a label could be missing."""
    listed = evidence.place.api.get(collection("Pod", NAMESPACE)) or {"items": []}
    owned = [
        pod["metadata"]["name"]
        for pod in listed["items"]
        for owner in pod["metadata"].get("ownerReferences", ())
        if (owner["kind"], owner["name"]) == (names.KIND, PIPELINE)
    ]
    return _differs(owned, [PIPELINE])


def _served(place: Place) -> str | None:
    path = f"{collection('Pod', NAMESPACE)}/{PIPELINE}:{PORT}/proxy/index.html"
    text = place.api.text(path).strip()
    return None if text.startswith("hello from demo") else f"it serves {text[:100]!r}"


def _secret_kept(place: Place) -> str | None:
    password = _password()
    session = hashlib.sha256(password.encode()).hexdigest()[:16]
    run = place.api.run
    if run(NAMESPACE, PIPELINE, APP, "cat /config/session").strip() != session:
        return "the step did not leave what it makes of the Secret"
    seen = run(NAMESPACE, PIPELINE, APP, f"env; cat /proc/mounts; cat {SECRET_FILE} 2>&1")
    if password in seen or f" {SECRET_FILE.rpartition('/')[0]} " in seen:
        return "the app container sees it"
    return None


def _password() -> str:
    applied, _ = manifests.demo()
    secret = next(one for one in applied if one["kind"] == "Secret")
    return str(secret["stringData"]["password"])


def _differs(found: list[Any], wanted: list[Any]) -> str | None:
    return None if found == wanted else f"found {', '.join(map(str, found)) or 'none'}"
