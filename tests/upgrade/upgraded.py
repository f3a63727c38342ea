"""An installation with pipelines in all states. The test acts as its users, and as a kubelet."""

import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.api.times import parse_time
from tests.api_client import Pipelines
from tests.cluster.audit import Request, requests
from tests.cluster.progress import Progress
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until, poll_until_stable
from tests.statuses import reason_of, run_number
from tests.upgrade import kubelet
from tests.upgrade.judge import aged, history, violations
from tests.upgrade.states import Item, State, state_of, template
from tests.upgrade.versions import Version

SETTLE_SECONDS: Final = 180.0
QUIET_SECONDS: Final = 2.0
NOT_FOUND, CONFLICT, INVALID = 404, 409, 422
WRITES: Final = frozenset({"create", "update", "patch", "delete"})
GONE: Final = frozenset({NOT_FOUND, CONFLICT})

Snapshot = Mapping[str, Item]
Memo = dict[str, Any]


Manage = Callable[[Item, Memo], bool]
"""Acts as a user, at most once in each call. Returns whether the operator has reacted."""


@dataclass
class UpgradedNamespace:
    """The pipelines of one namespace, and the operator that manages them."""

    api: client.ApiClient
    kubectl: Kubectl
    namespace: str
    audit_log: Path
    operators: Path
    """The kubeconfig of all operators."""
    user: str
    """The user of that kubeconfig."""
    logs: Path
    arguments: tuple[str, ...]
    lease_namespace: str
    progress: Progress
    whole: bool = False
    """The roles and admission policies are those of each version."""
    figures: Counter[str] = field(default_factory=Counter)
    running: OperatorProcess | None = None
    _crd: Version | None = None
    """The version whose CRD the API server serves. None: it serves none."""
    _started: list[OperatorProcess] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End all operators that still run."""
        for process in self._started:
            if process.running:
                process.kill()

    # Objects

    def create(self, states: Iterable[State], number: int) -> None:
        """Create so many pipelines of each state."""
        for state in states:
            for index in range(min(number, state.most)):
                body = state.manifest(index)
                if state.name == "conflict":
                    self._create_foreign_pod(body["metadata"]["name"])
                self._pipelines.create(body)

    def snapshot(self) -> dict[str, Item]:
        """Return all pipelines with their Pods, by name."""
        pods = {one["metadata"]["name"]: one for one in self._pods()}
        return {
            one["metadata"]["name"]: Item(self.api, one, pods.get(one["metadata"]["name"]))
            for one in self._pipelines.list()
        }

    def settle(self) -> None:
        """Bring all pipelines into their states, or back into them."""
        what = "all pipelines are in their states"
        poll_until(lambda: not self._unsettled(), SETTLE_SECONDS, what, state=self._unsettled)

    def _unsettled(self) -> list[str]:
        """Act once for each pipeline, and return those that are not in their states yet."""
        items = self.step()
        return [name for name, item in items.items() if not _acted(state_of(name).settle, item)]

    def step(self) -> dict[str, Item]:
        """Act as the kubelet of the fake node, once. Returns what was listed before."""
        items = self.snapshot()
        core = client.CoreV1Api(self.api)
        for name, item in items.items():
            if item.pod is None or item.pod["spec"].get("nodeName") != kubelet.NODE:
                continue
            metadata, report = item.pod["metadata"], state_of(name).report
            with _unless_gone():
                if "deletionTimestamp" in metadata:
                    if metadata["deletionGracePeriodSeconds"]:
                        core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)
                elif report and "initContainerStatuses" not in item.pod["status"]:
                    body = {"status": report(item.pod)}
                    core.patch_namespaced_pod_status(name, self.namespace, body)
        return items

    # Versions

    def apply(self, version: Version) -> None:
        """Apply the CRD of the version, and with ``whole`` the rest of its installation. Returns
        when the API server serves the CRD."""
        objects = [version.crd, *(version.objects if self.whole else ())]
        apply = self.kubectl.within("")
        apply("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=objects)
        poll_until(
            lambda: self._served_fields() == _fields(version.crd["spec"]["versions"][0]["schema"]),
            SETTLE_SECONDS,
            f"the API server serves the CRD of {version.name}",
            state=self._served_fields,
        )
        self._crd = version

    def _served_fields(self) -> set[str]:
        try:
            text = self.kubectl("get", "--raw", f"/openapi/v3/apis/{names.API_VERSION}")
        except subprocess.CalledProcessError:
            return set()  # The first CRD is not served yet.
        document = json.loads(text)
        schemas = document["components"]["schemas"]
        found = [one for name, one in schemas.items() if name.endswith(f".{names.KIND}")]
        return _fields({"openAPIV3Schema": found[0]}) if found else set()

    def start_first(self, version: Version) -> None:
        """Start the operator that manages the pipelines until the first switch."""
        self.running = self.start(version)

    def start(self, version: Version) -> OperatorProcess:
        """Start an operator, and return it when it has started. It may stand by."""
        identity = f"{version.name.partition(' ')[0]}-{len(self._started)}"
        environment = {
            **version.environment,
            "INITPIPELINE_LEASE_NAME": "initpipeline",
            "INITPIPELINE_LEASE_NAMESPACE": self.lease_namespace,
            "INITPIPELINE_IDENTITY": identity,
        }
        log = self.logs / f"{identity}.log"
        process = OperatorProcess(self.operators, log, self.arguments, environment)
        self._started.append(process)
        process.start()
        return process

    def stop(self) -> None:
        """Stop the operator by SIGTERM."""
        assert self.running is not None
        assert self.running.stop() == 0, self.running.tail()

    def _wait_for_lease(self, process: OperatorProcess) -> None:
        poll_until(
            lambda: "Lease acquired" in process.log.read_text(),
            SETTLE_SECONDS,
            "the new operator holds the Lease",
            state=process.tail,
        )

    def _wait_for_skew(self, version: Version, process: OperatorProcess) -> None:
        """Wait until the operator has reported that the served CRD is of another version. Raises
        AssertionError if it reports a CRD of its own version."""
        assert self._crd is not None
        if version.age < 0:
            return  # It does not compare the CRD.
        reports = {-1: "CRD is older than the operator", 1: "CRD is newer than the operator"}
        difference = self._crd.age - version.age
        if difference:
            report = reports[difference]
            poll_until(lambda: report in process.log.read_text(), SETTLE_SECONDS, report)
            self.figures["skews reported"] += 1
        for other, report in reports.items():
            assert other == difference or report not in process.log.read_text(), report

    # A switch

    def switch(
        self,
        new: Version,
        *,
        crd_first: Version | None = None,
        crd_last: Version | None = None,
        how: str = "roll",
        manage: bool = True,
    ) -> list[str]:
        """Replace the operator, and return all violations.

        ``how``: "roll" starts the new operator before the old one is stopped. With "stop" and
        "kill" the old one ends first, and users act while no operator runs.
        """
        self.settle()
        name = f"to {new.name}, {how}" + (", CRD first" if crd_first else "")
        tag = f"{len(self._started)}"
        self.progress(f"{name}: switching")
        before, offset = self.snapshot(), self.audit_log.stat().st_size
        if crd_first is not None:
            self.apply(crd_first)
        acted = how != "roll"
        created: set[str] = set()
        if how == "roll":
            successor = self.start(new)
            self.stop()
        else:
            assert self.running is not None
            self.stop() if how == "stop" else self.running.kill()
            created = self._act(before, tag)
            successor = self.start(new)
        self.running = successor
        self._wait_for_lease(successor)
        self._wait_for_skew(new, successor)
        found = list(self._judged(before, created, acted=acted))
        if crd_last is not None:
            self.apply(crd_last)
            found += list(self._judged(before, created, acted=acted))
        found += self._judge_writes(before, offset, acted=acted)
        if manage:
            found += self._managed(tag, before)
        self.progress(f"{name}: {len(before)} pipelines, {len(found)} violations")
        return [f"{name}: {one}" for one in found]

    def _act(self, before: Snapshot, tag: str) -> set[str]:
        """Act as the users while no operator runs. Returns the names of new pipelines."""
        for name, item in before.items():
            during = state_of(name).during
            if during is not None:
                during(item, tag)
        state = state_of("done-0")
        new = f"done-{900 + len(self._started)}"
        body = state.manifest(0)
        body["metadata"]["name"] = new
        self._pipelines.create(body)
        return {new}

    def _judged(self, before: Snapshot, created: set[str], *, acted: bool) -> Iterator[str]:
        """Wait until nothing changes, and yield the violations."""
        waits = [name for name in before if acted and state_of(name).due]
        poll_until(
            lambda: not self._missing(waits, before),
            SETTLE_SECONDS,
            "the runs that are due have started",
            state=lambda: self._missing(waits, before),
        )
        poll_until_stable(self._versions, QUIET_SECONDS, SETTLE_SECONDS, "nothing changes")
        after = self.snapshot()
        now = datetime.now(UTC)
        for name, item in before.items():
            at = parse_time(item.status.get("nextRunTime"))
            elapsed = at is not None and at <= now
            for one in violations(item, after.get(name), acted=acted, elapsed=elapsed):
                yield f"{name}: {one}"
        for name in created:
            run = after[name].run
            if (run.get("number"), run.get("trigger")) != (1, "Created") or not after[name].pod:
                yield f"{name}: created without operator, its run is {run}"

    def _missing(self, waits: Iterable[str], before: Snapshot) -> list[str]:
        after = self.step()
        return [
            name
            for name in waits
            if run_number(after[name].pipeline) <= run_number(before[name].pipeline)
            or not after[name].reported
        ]

    def _versions(self) -> list[str]:
        """Return what changes with each write, except of Pods on the real node."""
        return [
            raw["metadata"]["resourceVersion"]
            for name, item in self.step().items()
            if not state_of(name).real
            for raw in (item.pipeline, item.pod)
            if raw is not None
        ]

    def _judge_writes(self, before: Snapshot, offset: int, *, acted: bool) -> Iterator[str]:
        """Yield the pipelines whose status was written more than once, although nothing happened,
        and the writes at rest. A condition that has aged meanwhile is worth another write."""
        counts: Counter[str] = Counter()
        for one in self._writes(offset):
            if one.subresource == "status" and one.resource == names.PLURAL:
                counts[one.name] += 1
        self.figures["status writes"] += sum(counts.values())
        after = self.step()
        for name, item in before.items():
            state, waits = state_of(name), item.status.get("nextRunTime")
            quiet = not (state.writes or state.real or waits or (acted and state.during))
            if quiet and counts[name] > 1 + _aged(name, before, after):
                yield f"{name}: status was written {counts[name]} times"
        offset = self.audit_log.stat().st_size
        deadline = time.monotonic() + QUIET_SECONDS
        poll_until(lambda: time.monotonic() > deadline, 2 * QUIET_SECONDS, "the rest")
        rested = self.step()
        for one in self._writes(offset):
            if one.name not in before or _aged(one.name, after, rested):
                continue
            state = state_of(one.name)
            if not (state.writes or state.real):
                yield f"{one.name}: at rest, {one.verb} {one.resource}/{one.subresource} {one.code}"

    def _writes(self, offset: int) -> Iterator[Request]:
        for one in requests(self.audit_log, offset):
            own = one.user == self.user and one.namespace == self.namespace
            if own and one.verb in WRITES and one.resource in (names.PLURAL, "pods"):
                yield one

    # Management

    def _managed(self, tag: str, before: Snapshot) -> Iterator[str]:
        """Let users act on each pipeline, and yield those on which the operator does not act."""
        memory: dict[str, Memo] = {}
        open_ = set(self.snapshot())

        def remaining() -> set[str]:
            items = self.step()
            for name in sorted(open_):
                manage = MANAGE[state_of(name).manage]
                memo = memory.setdefault(name, {"tag": f"manage-{tag}"})
                if _acted(manage, items[name], memo):
                    open_.discard(name)
            return open_

        with contextlib.suppress(TimeoutError):
            poll_until(
                lambda: not remaining(),
                SETTLE_SECONDS,
                "each pipeline is managed",
                error=TimeoutError,
            )
        self.figures["pipelines managed"] += len(memory) - len(open_)
        after = self.snapshot()
        for name in sorted(open_):
            yield f"{name}: not managed, {after[name].status.get('conditions')}"
        for name, item in before.items():
            if name in after:
                for one in history(item, after[name]):
                    yield f"{name}: after a further run, {one}"

    def _create_foreign_pod(self, name: str) -> None:
        body = {"metadata": {"name": name}, "spec": template()["spec"]}
        client.CoreV1Api(self.api).create_namespaced_pod(self.namespace, body)

    def _pods(self) -> list[Raw]:
        listed = client.CoreV1Api(self.api).list_namespaced_pod
        answer = listed(self.namespace, _preload_content=False)
        return list(json.loads(answer.data)["items"])

    @property
    def _pipelines(self) -> Pipelines:
        return Pipelines(self.api, self.namespace)


def _fields(schema: Raw) -> set[str]:
    """Return the fields that differ between the versions, as far as a schema has them."""
    fields = schema["openAPIV3Schema"]["properties"]
    return {*fields["spec"]["properties"], *fields["status"]["properties"]["run"]["properties"]}


def _acted(action: Callable[..., bool], *arguments: Any) -> bool:
    """Return what the action returns. False if an object has changed since it was listed."""
    with _unless_gone():
        return action(*arguments)
    return False


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except client.ApiException as error:
        if error.status not in GONE:
            raise


def _rerun(item: Item, memo: Memo) -> bool:
    """Request a run, or for every second pipeline suspend and resume it."""
    if int(item.name.rpartition("-")[2]) % 2:
        return _suspend_and_resume(item, memo)
    if "number" not in memo:
        memo["number"] = run_number(item.pipeline)
        item.request_run(memo["tag"])
        return False
    return bool(item.run["number"] == memo["number"] + 1 and item.run.get("token") == memo["tag"])


def _suspend_and_resume(item: Item, memo: Memo) -> bool:
    if "number" not in memo:
        memo["number"] = run_number(item.pipeline)
        item.set(suspend=True)
        return False
    if "resumed" not in memo:
        if item.suspended:
            memo["resumed"] = True
            item.set(suspend=False)
        return False
    return _has_resumed(item, memo)


def _has_resumed(item: Item, memo: Memo) -> bool:
    run = item.status.get("run", {"number": 0, "trigger": ""})
    return bool(run["number"] == memo["number"] + 1 and run["trigger"] == "Resumed")


def _resume(item: Item, memo: Memo) -> bool:
    """Resume it, and suspend it again."""
    if "number" not in memo:
        memo["number"] = run_number(item.pipeline)
        item.set(suspend=False)
        return False
    if "resumed" not in memo:
        if _has_resumed(item, memo):
            memo["resumed"] = True
            item.set(suspend=True)
        return False
    return item.suspended and item.pod is None


def _correct(item: Item, memo: Memo) -> bool:
    """Correct the number of the run, which cannot be read."""
    if "number" not in memo:
        memo["number"] = run_number(item.pipeline)
        item.patch_status({"run": {"number": 1}})
        return False
    return reason_of(item.pipeline, "Stalled") != "Unreadable"


def _do_nothing(item: Item, memo: Memo) -> bool:  # noqa: ARG001
    """Leave alone what is being deleted: the operator does as well."""
    return True


MANAGE: Final[Mapping[str, Manage]] = {
    "rerun": _rerun,
    "resume": _resume,
    "correct": _correct,
    "nothing": _do_nothing,
}


def _aged(name: str, before: Snapshot, after: Snapshot) -> int:
    """Return how many conditions of the pipeline time has replaced. 0 if it was deleted."""
    if name not in before or name not in after:
        return 0
    return len(aged(before[name], after[name], state_of(name).ages))
