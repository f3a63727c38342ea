"""A cluster, the operator's process and what makes both work until they rest."""

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.api.raw import Raw
from tests.unit.model.cluster import Cluster
from tests.unit.model.kubelet import Kind, Kubelet
from tests.unit.model.process import WATCHES, Process
from tests.unit.runtime.fake_api import KEY, PIPELINES


class Scene:
    """A cluster with one pipeline at most, and the operator's process."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.api = self.cluster.api
        self.process = Process(self.api, self.cluster.clock)
        self.deleted_with = 0
        """The exit code of containers that the kubelet terminates with their Pod."""

    def exists(self) -> bool:
        return (PIPELINES, KEY) in self.api.objects

    def change_spec(self, change: Raw) -> None:
        """Change fields of the spec as a user. None removes a field."""
        raw = self.api.objects[PIPELINES, KEY]
        spec = without_none({**raw["spec"], **change})
        if spec != raw["spec"]:
            generation = raw["metadata"]["generation"] + 1
            metadata = {**raw["metadata"], "generation": generation}
            self.api.edit(PIPELINES, {"metadata": metadata, "spec": spec})

    def set_token(self, token: str) -> None:
        """Set the annotation with which a user requests a run."""
        raw = self.api.objects[PIPELINES, KEY]
        annotations = {RERUN_ANNOTATION: token}
        self.api.edit(PIPELINES, {"metadata": {**raw["metadata"], "annotations": annotations}})

    def has_unscheduled_pod(self) -> bool:
        pod = self.cluster.pod
        if pod is None or "nodeName" in pod["spec"] or not is_ours(pod):
            return False
        return "schedulingGates" not in pod["spec"]

    def has_live_pod(self) -> bool:
        pod, kubelet = self.cluster.pod, self.cluster.kubelet
        if pod is None or kubelet is None or kubelet.uid != pod["metadata"]["uid"]:
            return False
        return "deletionTimestamp" not in pod["metadata"] and not kubelet.ended

    def has_running(self) -> bool:
        return self.has_live_pod() and bool(self.kubelet.running)

    def has_running_step(self) -> bool:
        return self.has_running() and any(c.kind is Kind.STEP for c in self.kubelet.running)

    def work(self) -> None:
        if not self.process.work():
            self.restart()

    def restart(self) -> None:
        """Start another operator, which succeeds to list all objects."""
        self.api.dies_after = None
        self.api.failing.pop("GET pods", None)
        self.api.unanswered.discard("GET pods")
        self.process = Process(self.api, self.cluster.clock)

    def deliver_all(self) -> None:
        for plural in WATCHES:
            self.process.deliver(plural, self.process.undelivered(plural))

    def settle(self) -> None:
        """Let scheduler, kubelet, API server and operator work until there is nothing to do."""
        for _ in range(100):
            if self.has_unscheduled_pod() and "conditions" not in self.the_pod["status"]:
                self.cluster.schedule()
            moved = self.cluster.node_step(self.deleted_with)
            self.collect_garbage()
            delivered = sum(self.process.undelivered(plural) for plural in WATCHES)
            self.deliver_all()
            due = self.process.agenda.is_due
            self.work()
            if not (moved or delivered or due):
                return
        raise AssertionError(f"does not come to rest: {self.api.calls[-20:]}")

    def collect_garbage(self) -> None:
        pod = self.cluster.pod
        if pod is None or self.exists() or not is_ours(pod):
            return
        if "deletionTimestamp" not in pod["metadata"]:
            self.api.delete("pods")

    def wait(self) -> bool:
        """Set the clock to the next time for which operator or kubelet waits. Returns False if
        neither waits."""
        times = [self.process.agenda.due]
        if self.has_live_pod():
            times.append(self.kubelet.back_off_ends())
        waiting = [time for time in times if time is not None]
        if not waiting:
            return False
        clock = self.cluster.clock
        clock.seconds += max((min(waiting) - clock()).total_seconds(), 0)
        return True

    @property
    def kubelet(self) -> Kubelet:
        assert self.cluster.kubelet is not None
        return self.cluster.kubelet

    @property
    def the_pod(self) -> Raw:
        assert self.cluster.pod is not None
        return self.cluster.pod


def is_ours(pod: Raw) -> bool:
    return bool(pod["metadata"].get("ownerReferences"))


def without_none(spec: Raw) -> Raw:
    return {key: value for key, value in spec.items() if value is not None}
