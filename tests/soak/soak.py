"""Run a soak: a cluster, replicas, the schedule, and the judge beside them."""

import json
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import urllib3
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import connected
from tests.cluster.audit import requests
from tests.cluster.cluster import Cluster
from tests.cluster.kwok import FakeNodes
from tests.cluster.progress import Progress
from tests.faultproxy import FaultProxy
from tests.installation import install_but_the_deployment, kubeconfig_of_the_operator
from tests.kubectl import Kubectl
from tests.soak import observer, resources, rest, schedule
from tests.soak.background import Background
from tests.soak.facts import ContainersSeen, Gap, ProcessSeen, Stored
from tests.soak.faults import Faults
from tests.soak.judge import Judge, Violation
from tests.soak.observer import Containers, Follower, until_ended
from tests.soak.order import Merger
from tests.soak.record import Record
from tests.soak.replicas import EndKind, Replica
from tests.soak.users import Users, create_namespaces

OPERATOR: Final = "system:serviceaccount:initpipeline-system:initpipeline"
FAKE_NODES: Final = 2
SETTLE_SECONDS: Final = 240.0
QUIET_SECONDS: Final = 10.0
REST_SECONDS: Final = 30.0
PROGRESS_SECONDS: Final = 15.0
SAMPLE_SECONDS: Final = 5.0
LOG_CHARACTERS: Final = 60
CONTAINER_SECONDS: Final = 1.0
COMPONENT_SECONDS: Final = 2.0
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass
class Observed:
    """All that was observed, and the violations."""

    progress: Progress
    record: Record
    judge: Judge = field(default_factory=Judge)
    processes: list[ProcessSeen] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    growths: list[resources.Growth] = field(default_factory=list)
    calms: list[tuple[float, float]] = field(default_factory=list)
    """When faults were absent: from, until."""
    _merger: Merger = field(default_factory=lambda: Merger(observer.PATHS))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fact: Stored | Gap) -> None:
        """Hold a state back until it can be judged in order."""
        with self._lock:
            self._merger.add(fact)

    def reach(self, source: str, version: int) -> None:
        """Judge the states that are complete now."""
        with self._lock:
            self._merger.reach(source, version)
            for fact in self._merger.ready():
                self._judge(fact)

    def finish(self) -> None:
        """Judge the states that are left."""
        with self._lock:
            for fact in self._merger.rest():
                self._judge(fact)

    def add_containers(self, seen: ContainersSeen) -> None:
        """Judge the containers of the node."""
        with self._lock:
            self._judge(seen)

    def add_process(self, seen: ProcessSeen) -> None:
        """Keep a sample of a replica's process."""
        with self._lock:
            self.record.add(seen)
            self.processes.append(seen)

    def violate(self, violation: Violation) -> None:
        """Report a violation."""
        self.violations.append(violation)
        self.progress(str(violation))

    def _judge(self, fact: Stored | Gap | ContainersSeen) -> None:
        self.record.add(fact)
        for violation in self.judge.observe(fact):
            self.violate(violation)


@dataclass
class Soak:
    """One soak of a seed."""

    seed: int
    size: schedule.Size
    logs: Path
    progress: Progress
    _began: float = field(default_factory=time.monotonic)
    _threads: list[Background] = field(default_factory=list)
    """All that must not end during the soak."""

    def run(self) -> Observed:
        """Run all cycles. Returns what was observed."""
        cluster = Cluster(f"soak-{os.getpid()}", progress=self.progress)
        with ExitStack() as stack:
            record = stack.enter_context(Record(self.logs / "facts.jsonl"))
            observed = Observed(self.progress, record)
            stack.enter_context(cluster)
            stack.callback(self._keep_logs, cluster, observed)
            fake = stack.enter_context(FakeNodes(cluster, FAKE_NODES))
            kubectl = Kubectl(cluster.kubeconfig)
            install_but_the_deployment(kubectl)
            create_namespaces(cluster.kubeconfig)
            operators = kubeconfig_of_the_operator(kubectl, self.logs / "operator.kubeconfig")
            stack.enter_context(self._observation(cluster, observed))
            replicas = []
            for number in range(self.size.replicas):
                folder = self.logs / f"proxy-{number}"
                folder.mkdir(exist_ok=True)
                proxy = stack.enter_context(FaultProxy(folder))
                replicas.append(Replica(number, operators, proxy, self.logs, self._clock))
            for replica in replicas:
                replica.start()
                stack.callback(replica.end)
            stack.enter_context(
                self._repeated(SAMPLE_SECONDS, partial(_sample, replicas, observed))
            )
            users = Users(cluster, self.size.real, observed.figures)
            faults = Faults(cluster, replicas, observed.figures)
            stack.enter_context(self._repeated(COMPONENT_SECONDS, faults.restart_components))
            for number, cycle in enumerate(schedule.cycles(self.seed, self.size), start=1):
                title = f"cycle {number}/{self.size.cycles}"
                self._act(title, cycle, users, faults, observed)
                fake.restart()
                self._rest(title, cluster, users, faults, observed)
                _judge_replicas(replicas, observed)
                for thread in self._threads:
                    thread.check()
        return observed

    def _keep_logs(self, cluster: Cluster, observed: Observed) -> None:
        """Copy the logs of the cluster, if there are violations to explain."""
        if observed.violations:
            for file in (cluster.audit_log, *map(cluster.log, cluster.present())):
                shutil.copy(file, self.logs)

    def _clock(self) -> float:
        return time.monotonic() - self._began

    @contextmanager
    def _observation(self, cluster: Cluster, observed: Observed) -> Iterator[None]:
        containers = Containers(cluster.layout.node, self._clock)
        followers = [
            Follower(cluster.kubeconfig, source, self._clock, observed.add, observed.reach)
            for source in observer.PATHS
        ]
        for follower in followers:
            follower.start()
        self._threads += [follower.thread for follower in followers]
        with self._repeated(CONTAINER_SECONDS, lambda: observed.add_containers(containers.seen())):
            yield
        for follower in followers:
            follower.end()
        observed.finish()

    @contextmanager
    def _repeated(self, seconds: float, action: Callable[[], object]) -> Iterator[None]:
        """Call the action every so many seconds, during the context."""
        ended = threading.Event()
        thread = Background("an observer", partial(until_ended, ended, seconds, action))
        self._threads.append(thread)
        thread.start()
        try:
            yield
        finally:
            ended.set()
        thread.join()

    def _act(
        self,
        title: str,
        cycle: schedule.Cycle,
        users: Users,
        faults: Faults,
        observed: Observed,
    ) -> None:
        """Carry out one cycle."""
        begin = self._clock()

        def clock() -> float:
            return self._clock() - begin

        working = [
            Background("the users", lambda: users.run(cycle.users, clock)),
            Background("the faults", lambda: faults.run(cycle.faults, clock)),
        ]
        for thread in working:
            thread.start()
        calm_at = 0.0
        while any(thread.running for thread in working):
            working[0].join(PROGRESS_SECONDS)
            for thread in (*working, *self._threads):
                thread.check()
            if not working[1].running and not calm_at:
                calm_at = self._clock()
            phase = "calm" if calm_at else "storm"
            self._report(f"{title}, {phase}, {clock():.0f} of {self.size.seconds:.0f} s", observed)
        observed.calms.append((calm_at, self._clock()))
        for growth in resources.growths(observed.processes, calm_at, self._clock()):
            observed.growths.append(growth)
            if not growth.flat:
                name = f"replica {growth.replica}"
                observed.violate(Violation("flat", name, "", 0, self._clock(), str(growth)))

    def _report(self, what: str, observed: Observed) -> None:
        figures = observed.judge.world.figures
        runs, faults = _sum(figures, "runs:"), _sum(observed.figures, "faults:")
        self.progress(
            f"{what}: {runs} runs, {figures['Pods']} Pods, {faults} faults, "
            f"{len(observed.violations)} violations"
        )

    def _rest(
        self, title: str, cluster: Cluster, users: Users, faults: Faults, observed: Observed
    ) -> None:
        """Wait until all pipelines are at rest. Then nothing may be written."""
        self.progress(f"{title}: waiting until all pipelines are at rest")
        with connected(cluster.kubeconfig) as api:
            open_ = self._settle(api, users)
            if stuck := _left_to_garbage_collector(open_):
                observed.figures["deletions that a restarted garbage collector ended"] += stuck
                self.progress("restarting the garbage collector: docs/faults.md")
                faults.restart_garbage_collector()
                open_ = self._settle(api, users)
            for name, (pipeline, why) in open_.items():
                observed.violate(_of(pipeline, "converges", name, self._clock(), why))
            self.progress(f"{title}: counting writes for {REST_SECONDS:.0f} s")
            offset = cluster.audit_log.stat().st_size
            time.sleep(REST_SECONDS)
            written = [
                f"{one.verb} {one.resource} {one.namespace}/{one.name} {one.code}"
                for one in requests(cluster.audit_log, offset)
                if one.user == OPERATOR and one.verb in WRITES and one.resource != "leases"
            ]
            if written and not open_:
                evidence = f"{len(written)} writes in {REST_SECONDS:.0f} s: {written[:5]}"
                observed.violate(Violation("rest", "all", "", 0, self._clock(), evidence))
            observed.figures["pipelines at rest"] = len(_all(api)) - len(open_)

    def _settle(self, api: client.ApiClient, users: Users) -> dict[str, tuple[Raw, str]]:
        """Return the pipelines that do not come to rest, and why. They are at rest when no object
        has changed for QUIET_SECONDS: the kubelet reports a killed sandbox after seconds."""
        deadline = self._clock() + SETTLE_SECONDS
        asked: set[str] = set()
        versions: list[str] = []
        changed = reported = self._clock()
        while True:
            found = _all(api)
            if (now := _versions(found)) != versions:
                versions, changed = now, self._clock()
            open_ = {
                name: (pipeline, why)
                for name, (pipeline, pod) in found.items()
                if (why := rest.unsettled(pipeline, pod))
            }
            for name, (pipeline, _) in open_.items():
                if pipeline.get("status", {}).get("nextRunTime") and name not in asked:
                    asked.add(name)  # Back-off delays a run for up to five minutes.
                    users.request_run(name, f"settle-{self._clock():.0f}")
            settled = _left_to_garbage_collector(open_) == len(open_)
            quiet = settled and self._clock() > changed + QUIET_SECONDS
            if quiet or self._clock() > deadline:
                return open_
            if open_ and self._clock() > reported + PROGRESS_SECONDS:
                reported = self._clock()
                name, (_, why) = next(iter(open_.items()))
                self.progress(f"{len(open_)} pipelines are not at rest, such as {name}: {why}")
            time.sleep(2)


def _sum(figures: Counter[str], prefix: str) -> int:
    return sum(count for what, count in figures.items() if what.startswith(prefix))


def _left_to_garbage_collector(open_: Mapping[str, tuple[Raw, str]]) -> int:
    return sum(why == rest.LEFT_TO_GARBAGE_COLLECTOR for _, why in open_.values())


def _versions(found: Mapping[str, tuple[Raw, Raw | None]]) -> list[str]:
    objects = (one for pair in found.values() for one in pair if one is not None)
    return [one["metadata"]["resourceVersion"] for one in objects]


def _all(api: client.ApiClient) -> dict[str, tuple[Raw, Raw | None]]:
    """Return all pipelines with their Pods."""
    while True:
        try:
            custom = client.CustomObjectsApi(api).list_cluster_custom_object
            pipelines = custom(names.GROUP, names.VERSION, names.PLURAL)["items"]
            listed = client.CoreV1Api(api).list_pod_for_all_namespaces(
                label_selector=names.NAME_LABEL, _preload_content=False
            )
            pods = {one["metadata"]["name"]: one for one in json.loads(listed.data)["items"]}
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
            time.sleep(1)
        else:
            return {
                one["metadata"]["name"]: (one, pods.get(one["metadata"]["name"]))
                for one in pipelines
            }


def _judge_replicas(replicas: list[Replica], observed: Observed) -> None:
    """Judge how the processes have ended since the last cycle, and what they have logged."""
    for replica in replicas:
        name = f"replica {replica.number}"
        if replica.seen() is None:
            observed.violate(Violation("replica_runs", name, "", 0, 0, "it does not run at rest"))
        for end in replica.ends:
            observed.figures[f"ends of replicas: {end.kind}"] += 1
            if end.kind is EndKind.BY_ITSELF:
                evidence = f"ended with {end.code}: {end.last_line}"
                observed.violate(Violation("replica_runs", name, "", 0, end.at, evidence))
        for line in replica.log_lines():
            if "exc_info" in line:
                evidence = f"{line.get('message')}: {line['exc_info'][-300:]}"
                observed.violate(Violation("no_exception", name, "", 0, 0, evidence))
            message = re.sub(r"\d+", "N", str(line.get("message")))[:LOG_CHARACTERS]
            observed.figures[f"log lines: {line.get('level')} {message}"] += 1
        replica.forget()


def _of(pipeline: Raw, invariant: str, name: str, at: float, evidence: str) -> Violation:
    metadata = pipeline["metadata"]
    return Violation(
        invariant, name, metadata["uid"], int(metadata["resourceVersion"]), at, evidence
    )


def _sample(replicas: list[Replica], observed: Observed) -> None:
    for seen in filter(None, (replica.seen() for replica in replicas)):
        observed.add_process(seen)
