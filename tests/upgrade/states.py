"""The states of the pipelines, and how a user and the kubelet bring a pipeline into each.

``State.settle`` is called until it returns True. In each call it does at most one thing. So it also
restores the state after a re-run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kubernetes import client

from initpipeline.api import names
from initpipeline.api.models import INT32_MAX
from initpipeline.api.raw import Raw
from initpipeline.core.status_size import MOST_BYTES
from tests import templates
from tests.api_client import Pipelines
from tests.statuses import has_ready, is_stalled, reason_of, run_number, status_of
from tests.upgrade import kubelet

HOLD: Final = "test.initpipeline.dev/hold"
"""A finalizer that only the test removes."""


@dataclass(frozen=True)
class Item:
    """A pipeline and the Pod of its name, as last listed."""

    api: client.ApiClient
    pipeline: Raw
    pod: Raw | None

    @property
    def name(self) -> str:
        return str(self.pipeline["metadata"]["name"])

    @property
    def status(self) -> Raw:
        return dict(self.pipeline.get("status", {}))

    @property
    def run(self) -> Raw:
        return dict(self.status.get("run", {}))

    @property
    def pod_uid(self) -> str:
        """The UID of the Pod. Empty: there is no Pod."""
        return str(self.pod["metadata"]["uid"]) if self.pod else ""

    @property
    def reported(self) -> bool:
        """Whether status reports what the Pod's status has."""
        if self.pod is None or self.run.get("podUID") != self.pod_uid:
            return False
        mirrored = [one["state"] for one in self.status.get("initContainerStatuses", [])]
        actual = [one["state"] for one in self.pod["status"].get("initContainerStatuses", [])]
        return bool(actual) and (mirrored == actual or "omitted" in self.status)

    @property
    def suspended(self) -> bool:
        return status_of(self.pipeline, "Suspended") == "True"

    def patch(self, change: Raw) -> None:
        self._pipelines.patch(self.name, change)

    def patch_status(self, change: Raw) -> None:
        self._pipelines.patch_status(self.name, change)

    def set(self, **fields: Any) -> None:
        self.patch({"spec": fields})

    def request_run(self, token: str) -> None:
        self.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: token}}})

    def delete(self) -> None:
        self._pipelines.delete(self.name, "Background")

    def delete_pod(self) -> None:
        """Delete the Pod at once."""
        delete = client.CoreV1Api(self.api).delete_namespaced_pod
        delete(self.name, self._namespace, grace_period_seconds=0)

    @property
    def _namespace(self) -> str:
        return str(self.pipeline["metadata"]["namespace"])

    @property
    def _pipelines(self) -> Pipelines:
        return Pipelines(self.api, self._namespace)


Settle = Callable[[Item], bool]
During = Callable[[Item, str], None]
"""What a user does while no operator runs. The second argument names the switch."""


def template(steps: int = 3, *, metadata: Raw | None = None, **spec: Any) -> Raw:
    """Return a Pod template for the fake node."""
    return {
        "metadata": {"labels": {"app": "upgrade"}, **(metadata or {})},
        "spec": {
            "nodeName": kubelet.NODE,
            "tolerations": [{"operator": "Exists"}],
            "initContainers": [{"name": f"s{n}", "image": "a.test/s:1"} for n in range(steps)],
            "containers": [{"name": "app", "image": "a.test/app:1"}],
            **spec,
        },
    }


@dataclass(frozen=True)
class State:
    """A state that a pipeline can be in during an upgrade."""

    name: str
    report: kubelet.Report | None
    """What the kubelet reports about each new Pod. None: nothing."""
    settle: Settle
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the spec."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    during: During | None = None
    due: str = ""
    """The trigger of the run that follows from ``during``. Empty: none follows."""
    manage: str = "rerun"
    """How the operator shows that it manages the pipeline, see upgraded.MANAGE."""
    real: bool = False
    """The Pod runs on the real node."""
    most: int = 1000
    """The largest number of such pipelines."""
    writes: bool = False
    """The operator retries, so it writes at rest."""
    ages: Mapping[str, str] = field(default_factory=dict)
    """The conditions that become another one as time passes, by type."""

    def manifest(self, number: int) -> Raw:
        """Return the InitPipeline of this number."""
        spec = {"template": template(), **self.spec}
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": f"{self.name}-{number}", **self.metadata},
            "spec": spec,
        }


def _reported(item: Item) -> bool:
    return item.reported


def _observed(item: Item) -> bool:
    """Status reports the Pod, with or without a report of the kubelet."""
    return item.pod is not None and item.run.get("podUID") == item.pod_uid


def _ready(item: Item) -> bool:
    return item.reported and has_ready(item.pipeline)


def _stalled(item: Item) -> bool:
    return is_stalled(item.pipeline)


def _limited(item: Item) -> bool:
    return _stalled(item) and item.pod is None


def _backing_off(item: Item) -> bool:
    """Let the Pod be lost as the tenth in a row, so that the next run waits for five minutes."""
    if item.status.get("nextRunTime"):
        return True
    if _ready(item):
        if item.status.get("rerunCount", 0) < 9:
            item.patch_status({"rerunCount": 9})
        else:
            item.delete_pod()
    return False


def _suspend(item: Item) -> bool:
    if not item.pipeline["spec"].get("suspend"):
        if _ready(item):
            item.set(suspend=True)
        return False
    return item.suspended and item.pod is None


def _delete(item: Item) -> bool:
    if "deletionTimestamp" in item.pipeline["metadata"]:
        return True
    if _ready(item):
        item.delete()
    return False


def _terminating(item: Item) -> bool:
    """Request a run. The finalizer keeps the Pod of the run before."""
    if run_number(item.pipeline) >= 2:
        return item.pod is not None and "deletionTimestamp" in item.pod["metadata"]
    if _ready(item):
        item.request_run("second")
    return False


def _with_reason(reason: str) -> Settle:
    return lambda item: reason_of(item.pipeline, "Ready") == reason


RUNS: Final = 5


def _full_history(item: Item) -> bool:
    number = run_number(item.pipeline)
    if not _ready(item):
        return False
    if number < RUNS:
        item.request_run(f"fill-{number}")
    return number >= RUNS


def _oversized(item: Item) -> bool:
    return _ready(item) and "omitted" in item.status


def _lose(item: Item) -> bool:
    if _ready(item):
        item.delete_pod()
        return False
    return _stalled(item) and item.pod is None


def _make_unreadable(item: Item) -> bool:
    if _ready(item) and item.run["number"] != INT32_MAX:
        item.patch_status({"run": {"number": INT32_MAX}})
        return False
    return reason_of(item.pipeline, "Stalled") == "Unreadable"


def _request(item: Item, switch: str) -> None:
    item.request_run(f"during-{switch}")


def _change_template(item: Item, switch: str) -> None:
    item.set(template=template(containers=[{"name": "app", "image": f"a.test/app:{switch}"}]))


def _change_policy(item: Item, _: str) -> None:
    item.set(runHistoryLimit=item.pipeline["spec"]["runHistoryLimit"] + 1)


def _lose_pod(item: Item, _: str) -> None:
    item.delete_pod()


LOST: Final[Raw] = {"rerunPolicy": "Never"}
NEVER: Final[Raw] = {"template": template(restartPolicy="Never")}
LARGE: Final = {"name": "app", "image": "a.test/app:1", "args": ["x" * (MOST_BYTES - 18_000)]}

STATES: Final = (
    State("new", None, _observed),
    State("step-1", kubelet.running(0), _reported),
    State("step-3", kubelet.running(2), _reported),
    State("image", kubelet.waiting(1, "ImagePullBackOff"), _reported),
    State("failed-step", kubelet.failed(1), _reported),
    State("back-off", kubelet.in_back_off(1), _reported),
    State("done", kubelet.ready, _ready),
    State("succeeded", kubelet.succeeded, _ready, NEVER),
    State("given-up", kubelet.failed_pod, _stalled, NEVER),
    State(
        "limit",
        kubelet.running(0),
        _limited,
        {"initPolicies": [{"name": "s0", "timeoutSeconds": 1}]},
    ),
    State("waiting-run", kubelet.ready, _backing_off),
    State("suspended", kubelet.ready, _suspend, manage="resume"),
    State(
        "never-run",
        kubelet.ready,
        lambda item: item.suspended,
        {"suspend": True},
        manage="resume",
    ),
    State(
        "deleting",
        kubelet.ready,
        _delete,
        metadata={"finalizers": [HOLD]},
        manage="nothing",
    ),
    State(
        "terminating",
        kubelet.ready,
        _terminating,
        {"template": template(metadata={"finalizers": [HOLD]})},
        ages={"Reconciling": "Stalled"},
    ),
    State("requested", kubelet.ready, _ready, during=_request, due="Requested"),
    State("conflict", None, _with_reason("NameConflict")),
    State(
        "refused",
        None,
        _with_reason("PodForbidden"),
        {"template": template(priorityClassName="absent")},
        writes=True,
    ),
    State("template", kubelet.ready, _ready, during=_change_template, due="SpecChanged"),
    # With other rules of hashing, this starts a run if there is no Pod: see decision 0003.
    State("policy", kubelet.ready, _ready, during=_change_policy),
    State("in-place", kubelet.ready, _ready, {"rerunStrategy": "InPlace"}),
    State("history", kubelet.ready, _full_history, {"runHistoryLimit": RUNS - 1}),
    State(
        "oversized",
        kubelet.ready,
        _oversized,
        {"template": template(containers=[LARGE])},
        most=2,
    ),
    State("lost", kubelet.ready, _lose, LOST),
    State("lost-during", kubelet.ready, _ready, during=_lose_pod, due="PodLost"),
    State("unreadable", kubelet.ready, _make_unreadable, manage="correct"),
)


def _real(*steps: Raw, **spec: Any) -> Raw:
    return {"template": templates.template(*steps, **spec)}


def _restarted(item: Item) -> bool:
    reported = item.status.get("initContainerStatuses", [])
    return _observed(item) and any(one["restartCount"] for one in reported)


REAL: Final = tuple(
    replace(state, real=True)
    for state in (
        State("real-done", None, _ready, _real(templates.container("s0", "true"))),
        State(
            "real-in-place",
            None,
            _ready,
            {**_real(templates.container("s0", "true")), "rerunStrategy": "InPlace"},
        ),
        State("real-step", None, _reported, _real(templates.container("s0", "exec sleep 3600"))),
        State("real-crash", None, _restarted, _real(templates.container("s0", "exit 3"))),
        State(
            "real-given-up",
            None,
            _stalled,
            _real(templates.container("s0", "exit 3"), restartPolicy="Never"),
        ),
        State(
            "real-requested",
            None,
            _ready,
            _real(templates.container("s0", "true")),
            during=_request,
            due="Requested",
        ),
    )
)
"""On the real node, whose kubelet reports. The step of real-crash is restarted at any time."""

BY_NAME: Final = {state.name: state for state in (*STATES, *REAL)}


def state_of(name: str) -> State:
    """Return the state of a pipeline, by its name."""
    return BY_NAME[name.rpartition("-")[0]]
