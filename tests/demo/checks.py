"""The claims of the demo, which are checked at its end."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.reasons import ConditionType
from tests.demo.cluster import NAMESPACE, PIPELINE, DemoCluster
from tests.demo.errors import DemoError
from tests.demo.journal import Journal
from tests.demo.observer import Observer
from tests.demo.scenario import FAILING_STEP, Act, manifest
from tests.demo.snapshot import Snapshot

FAILURES: Final = 2
OUTPUT: Final = "cannot migrate: the schema is locked"
MIRROR_SECONDS: Final = 10.0
PORT: Final = 8080
SECRET_FILE: Final = "/secret/password"


@dataclass(frozen=True)
class Check:
    """A claim, and what is wrong with it. None: it is true."""

    claim: str
    problem: str | None


Rule = Callable[[], str | None]


@dataclass(frozen=True)
class Evidence:
    """The observations on which the claims are checked."""

    cluster: DemoCluster
    observer: Observer
    journal: Journal
    acts: Sequence[Act]

    @property
    def now(self) -> Snapshot:
        """The present state."""
        return self.observer.snapshot


def all_checks(evidence: Evidence) -> Iterator[Check]:
    """Check the claims one after the other."""
    for claim, rule in _rules(evidence):
        try:
            yield Check(claim, rule())
        except DemoError as error:
            yield Check(claim, str(error))


def after_first_run(evidence: Evidence) -> Iterator[Check]:
    """Check what only the Pod of the first run can show."""
    claim = f"step {FAILING_STEP} failed {FAILURES} times, and the status has its output"
    if not _reported(evidence) and evidence.journal.run(1).operator_down:
        claim += " (not in a condition: the operator was down)"
    yield Check(claim, _failures_mirrored(evidence))


def _rules(evidence: Evidence) -> list[tuple[str, Rule]]:
    acts = evidence.acts
    numbers = ", ".join(str(number) for number in range(1, len(acts) + 1))
    results = ", ".join(act.ends_last_run for act in acts if act.ends_last_run)
    return [
        (f"the runs are {numbers}, each once", lambda: _numbers(evidence)),
        (
            f"their triggers are {', '.join(act.trigger for act in acts)}",
            lambda: _triggers(evidence),
        ),
        (f"the results in the history are {results}", lambda: _results(evidence)),
        (
            f"Initialized was False during each re-run{_unobserved(evidence)}, and is True now",
            lambda: _initialized(evidence),
        ),
        ("initContainerStatuses equal the Pod's, field by field", lambda: _mirror(evidence)),
        ("the pipeline has exactly one Pod", lambda: _one_pod(evidence.cluster)),
        ("the app serves what step render-config wrote", lambda: _served(evidence.cluster)),
        ("the app cannot read the Secret of step login", lambda: _secret_hidden(evidence.cluster)),
    ]


def _runs(now: Snapshot) -> list[Any]:
    """Return all runs, oldest first."""
    return [*reversed(now.status.history), *([now.status.run] if now.status.run else [])]


def _numbers(evidence: Evidence) -> str | None:
    if evidence.journal.violations:
        return evidence.journal.violations[0]
    wanted = list(range(1, len(evidence.acts) + 1))
    return _differs([run.number for run in _runs(evidence.now)], wanted)


def _triggers(evidence: Evidence) -> str | None:
    actual = [str(run.trigger) for run in _runs(evidence.now)]
    return _differs(actual, [str(act.trigger) for act in evidence.acts])


def _results(evidence: Evidence) -> str | None:
    actual = [str(record.result) for record in reversed(evidence.now.status.history)]
    return _differs(actual, [str(act.ends_last_run) for act in evidence.acts if act.ends_last_run])


def _never_false(evidence: Evidence) -> list[int]:
    """Return the re-runs in which Initialized was never observed as False."""
    reruns = range(2, len(evidence.acts) + 1)
    return [number for number in reruns if not evidence.journal.run(number).uninitialized]


def _unobserved(evidence: Evidence) -> str:
    """Return a restriction of the claim for runs during which the operator was killed.

    If the operator restarts after the init containers, it never reports Initialized as False.
    """
    unobserved = [n for n in _never_false(evidence) if evidence.journal.run(n).operator_down]
    runs = ", ".join(map(str, unobserved))
    return f" (not observed in run {runs}: the operator was down)" if unobserved else ""


def _initialized(evidence: Evidence) -> str | None:
    for number in _never_false(evidence):
        if not evidence.journal.run(number).operator_down:
            return f"it was never False in run {number}"
    if not evidence.now.is_true(ConditionType.INITIALIZED):
        return "it is not True now"
    return None


def _failures_mirrored(evidence: Evidence) -> str | None:
    now, observed = evidence.now, evidence.journal.run(1)
    mirror = next(s for s in now.status.init_container_statuses if s["name"] == FAILING_STEP)
    if mirror["restartCount"] != FAILURES:
        return f"it was restarted {mirror['restartCount']} times"
    last = mirror["lastState"].get("terminated", {})
    if last.get("exitCode") != 1 or OUTPUT not in last.get("message", ""):
        return f"its lastState is {last}"
    if not _reported(evidence) and not observed.operator_down:
        return f"the conditions had only the messages {sorted(observed.failures)}"
    return None


def _reported(evidence: Evidence) -> bool:
    """Return whether a condition reported the failure during the first run."""
    messages = evidence.journal.run(1).failures
    return any("exited with 1" in one and OUTPUT in one for one in messages)


def _mirror(evidence: Evidence) -> str | None:
    # The operator needs a moment to mirror the kubelet's last report.
    try:
        evidence.observer.wait(lambda now: not _difference(now), MIRROR_SECONDS, "they are equal")
    except DemoError:
        return _difference(evidence.now)
    return None


def _difference(now: Snapshot) -> str | None:
    if now.pod is None:
        return "there is no Pod"
    statuses = now.pod["status"].get("initContainerStatuses", [])
    mirrored = ((now.pipeline or {}).get("status") or {}).get("initContainerStatuses", [])
    return difference(mirrored, statuses, "initContainerStatuses")


def difference(pipelines: Any, pods: Any, path: str) -> str | None:
    """Return the first difference between the pipeline's value and the Pod's. None if equal."""
    if isinstance(pipelines, dict) and isinstance(pods, dict):
        keys = sorted(pipelines.keys() | pods.keys())
        parts = ((pipelines.get(key), pods.get(key), f"{path}.{key}") for key in keys)
    elif isinstance(pipelines, list) and isinstance(pods, list) and len(pipelines) == len(pods):
        pairs = enumerate(zip(pipelines, pods, strict=True))
        parts = ((left, right, f"{path}[{index}]") for index, (left, right) in pairs)
    else:
        return None if pipelines == pods else f"{path} is {pipelines!r}, the Pod's is {pods!r}"
    return next(filter(None, (difference(*part) for part in parts)), None)


def _one_pod(cluster: DemoCluster) -> str | None:
    # By owner reference, since a second Pod might lack the label.
    owned = [
        pod["metadata"]["name"]
        for pod in cluster.get("pods")["items"]
        for owner in pod["metadata"].get("ownerReferences", ())
        if (owner["kind"], owner["name"]) == (names.KIND, PIPELINE)
    ]
    return _differs(owned, [PIPELINE])


def _served(cluster: DemoCluster) -> str | None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{PIPELINE}:{PORT}/proxy/index.html"
    text = cluster.kubectl("get", "--raw", path).strip()
    return None if text.startswith("hello from demo") else f"it serves {text[:100]!r}"


def _secret_hidden(cluster: DemoCluster) -> str | None:
    password = _password()
    session = hashlib.sha256(password.encode()).hexdigest()[:16]
    if cluster.execute("cat /config/session").strip() != session:
        return "the step did not write the session that it creates from the Secret"
    readable = cluster.execute(f"env; cat /proc/mounts; cat {SECRET_FILE} 2>&1 || true")
    if password in readable or f" {SECRET_FILE.rpartition('/')[0]} " in readable:
        return "the app container can read it"
    return None


def _password() -> str:
    secret = next(one for one in manifest() if one["kind"] == "Secret")
    return str(secret["stringData"]["password"])


def _differs(actual: list[Any], expected: list[Any]) -> str | None:
    return None if actual == expected else f"actual: {', '.join(map(str, actual)) or 'none'}"
