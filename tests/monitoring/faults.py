"""The faults that make each alert fire: of requests, processes, permissions, objects and users.

A fault begins when its generator is started, and ends when the generator is continued.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any, Final

from kubernetes import client

from initpipeline import __version__
from initpipeline.api import names
from tests.adjusted_operator import ADJUST, CLOCK_FILE, MEMORY_MIB
from tests.api_client import allow
from tests.faultproxy import Answer, Latency, Silence, Unanswered
from tests.monitoring.installation import LEASE, Installation, unscheduled
from tests.monitoring.prometheus import SCRAPE_SECONDS
from tests.poll import poll_until
from tests.templates import container, template

SECONDS: Final = 120.0
"""The longest wait for a reaction of the operator or the API server."""
STORM: Final = 120
SWEEP_LIMIT_SECONDS: Final = 1800
"""The age of the last sweep at which NoSweep fires."""
SWEEP_MARGIN_SECONDS: Final = 60
CRD_NAME: Final = f"{names.PLURAL}.{names.GROUP}"
SPEC_FIELDS: Final = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
FIELD: Final = "ttlSecondsAfterFinished"
STATUS: Final = r"/initpipelines/[^/]+/status"
RULES: Final[list[dict[str, list[str]]]] = [
    {"apiGroups": [names.GROUP], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["events.k8s.io", "coordination.k8s.io"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
]

Begin = Callable[[Installation], AbstractContextManager[None]]


def run_numbers(installation: Installation) -> dict[str, int]:
    """Returns the number of the current run of each InitPipeline. 0: it has none."""
    return {
        one["metadata"]["name"]: one.get("status", {}).get("run", {}).get("number", 0)
        for one in installation.pipelines.list()
    }


def wait_for_runs(installation: Installation, count: int) -> None:
    """Wait until so many InitPipelines have a run."""
    poll_until(
        lambda: sum(number > 0 for number in run_numbers(installation).values()) == count,
        SECONDS,
        f"{count} InitPipelines of {installation.namespace} have a run",
        state=installation.tail,
    )


@contextmanager
def failing_status(installation: Installation, answer: Answer) -> Iterator[None]:
    """Let each write of a status fail with this answer. Five InitPipelines are retried."""
    installation.start()
    with installation.proxy.inject(answer, method="PATCH", path=STATUS):
        for number in range(5):
            installation.create(f"demo-{number}", unscheduled())
        yield


def server_errors(installation: Installation) -> AbstractContextManager[None]:
    """Answer with 500, as an API server without etcd."""
    return failing_status(installation, Answer(500))


def throttling(installation: Installation) -> AbstractContextManager[None]:
    """Answer with 429, as an API server that is overloaded."""
    return failing_status(installation, Answer(429, retry_after=1))


@contextmanager
def held_lease(installation: Installation) -> Iterator[None]:
    """Create a Lease of a holder that does not exist, which lasts for an hour."""
    leases = client.CoordinationV1Api(installation.api)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    spec = {"holderIdentity": "gone", "leaseDurationSeconds": 3600, "renewTime": now}
    body = {"metadata": {"name": LEASE}, "spec": spec}
    leases.create_namespaced_lease(installation.namespace, body)
    installation.start()
    yield
    leases.delete_namespaced_lease(LEASE, installation.namespace)


@contextmanager
def second_installation(installation: Installation) -> Iterator[None]:
    """Start a second replica with its Lease in another namespace, so that both hold one."""
    installation.start()
    other = {"metadata": {"name": f"{installation.namespace}-other"}}
    installation.core.create_namespace(other)
    elsewhere = {"INITPIPELINE_LEASE_NAMESPACE": other["metadata"]["name"]}
    installation.start(name="b", environment=elsewhere)
    yield
    installation.remove("b")


@contextmanager
def older_version(installation: Installation) -> Iterator[None]:
    """Start a second replica of another version: a rollout that does not complete."""
    installation.start()
    adjusted = {ADJUST: json.dumps({"initpipeline.runtime.metrics.__version__": "0.0.1"})}
    assert __version__ != "0.0.1"
    installation.start(name="b", module="tests.adjusted_operator", environment=adjusted)
    yield
    installation.remove("b")


@contextmanager
def killed_replica(installation: Installation) -> Iterator[None]:
    """Kill one of two replicas, which does not start again."""
    installation.start()
    second = installation.start(name="b")
    second.kill()
    yield
    second.start()


@contextmanager
def silent_watch(installation: Installation) -> Iterator[None]:
    """Hold back all events and bookmarks of Pods: the connection is half-open."""
    installation.start()
    path = f"/namespaces/{installation.namespace}/pods"
    with installation.proxy.inject(Silence(), path=path, watch=True):
        yield


@contextmanager
def slow_creation(installation: Installation) -> Iterator[None]:
    """Delay the creation of a Pod by 25 s, as a slow webhook does. One worker waits."""
    installation.start("--workers=1", "--lease-seconds=120", "--renew-seconds=60")
    with installation.proxy.inject(Latency(25), method="POST", path="/pods"):
        for number in range(6):
            installation.create(f"demo-{number}", unscheduled())
        yield


@contextmanager
def unanswered_read(installation: Installation) -> Iterator[None]:
    """Do not answer a read after a conflict. The timeout of requests is very long."""
    installation.start("--request-timeout-seconds=1800")
    proxy = installation.proxy
    with (
        proxy.inject(Answer(409), method="PATCH", path=STATUS, times=1),
        proxy.inject(Unanswered(), method="GET", path=r"/initpipelines/demo$") as reads,
    ):
        installation.create("demo", unscheduled())
        poll_until(lambda: reads.hits, SECONDS, "a read is not answered", state=installation.tail)
        yield
    proxy.stop()  # closes the connection on which nothing is answered
    proxy.start()


@contextmanager
def withdrawn_permission(installation: Installation) -> Iterator[None]:
    """Withdraw the permission to delete Pods."""
    api, namespace, user = installation.api, installation.namespace, installation.user
    allow(api, namespace, user, RULES)
    installation.start(groups=())
    installation.create("demo", unscheduled())
    wait_for_runs(installation, 1)
    rbac = client.RbacAuthorizationV1Api(api)
    less = [*RULES[:-1], {**RULES[-1], "verbs": ["get", "list", "watch", "create", "patch"]}]
    rbac.patch_namespaced_role(user, namespace, {"rules": less})
    rerun = {"metadata": {"annotations": {names.RERUN_ANNOTATION: "again"}}}
    installation.pipelines.patch("demo", rerun)
    yield
    rbac.patch_namespaced_role(user, namespace, {"rules": RULES})


@contextmanager
def exhausted_quota(installation: Installation) -> Iterator[None]:
    """Create a ResourceQuota that permits no Pod."""
    core, namespace = installation.core, installation.namespace
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    core.create_namespaced_resource_quota(namespace, quota)
    poll_until(
        lambda: core.read_namespaced_resource_quota("none", namespace).status.hard,
        SECONDS,
        "the controller manager accepts the quota",
    )
    installation.start()
    installation.create("demo", unscheduled())
    yield
    core.delete_namespaced_resource_quota("none", namespace)


@contextmanager
def unreachable_webhook(installation: Installation) -> Iterator[None]:
    """Create a webhook for the Pods of the namespace whose Service does not exist."""
    namespace = installation.namespace
    webhook = {
        "name": "pods.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": {"name": "none", "namespace": namespace}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
            }
        ],
    }
    admission = client.AdmissionregistrationV1Api(installation.api)
    admission.create_validating_webhook_configuration(
        {"metadata": {"name": namespace}, "webhooks": [webhook]}
    )
    installation.start()
    for number in range(5):
        installation.create(f"demo-{number}", unscheduled())
    yield
    admission.delete_validating_webhook_configuration(namespace)


@contextmanager
def unreadable_status(installation: Installation) -> Iterator[None]:
    """Write a status that the operator cannot read, as a user."""
    installation.start()
    installation.create("demo", unscheduled())
    wait_for_runs(installation, 1)
    run = {"number": 2**31 - 1, "trigger": "Created", "startTime": "2030-01-01T00:00:00Z"}
    installation.pipelines.patch_status("demo", {"run": run})
    yield
    installation.pipelines.patch_status("demo", {"run": None})


@contextmanager
def stopped_process(installation: Installation) -> Iterator[None]:
    """Stop the process for 1.6 s at a time, as with a limit of CPU that is too low."""
    process = installation.start()
    installation.create("demo", unscheduled())
    ended = threading.Event()

    def stop_and_continue() -> None:
        for turn in count():
            if ended.wait(0.7):
                return
            # Without work, the event loop has nothing to be late with.
            changed = {"metadata": {"annotations": {"example.com/turn": str(turn)}}}
            installation.pipelines.patch("demo", changed)
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(1.6)
            os.kill(process.pid, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_continue, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


@contextmanager
def failing_step(installation: Installation) -> Iterator[None]:
    """Let a step fail on the kubelet. The InitPipeline permits no further run."""
    installation.start()
    failing = template(container("one", "exit 3"), restartPolicy="Never")
    installation.create("demo", failing, backoffLimit=0)
    yield
    installation.pipelines.patch("demo", {"spec": {"template": template(container("one"))}})


@contextmanager
def deleted_pods(installation: Installation) -> Iterator[None]:
    """Delete the Pods of many InitPipelines, as a user."""
    installation.start()
    for number in range(STORM):
        installation.create(f"demo-{number}", unscheduled())
    wait_for_runs(installation, STORM)
    for number in range(STORM):
        delete = installation.core.delete_namespaced_pod
        delete(f"demo-{number}", installation.namespace, grace_period_seconds=0)
        if number == 0:
            # increase() does not count the first value of a series.
            poll_until(lambda: _lost(installation), SECONDS, "the first loss is scraped")
    yield


def _lost(installation: Installation) -> list[Any]:
    labels = f'namespace="{installation.namespace}",trigger="PodLost"'
    return installation.prometheus.query(f"initpipeline_runs_started_total{{{labels}}}")


@contextmanager
def refused_events(installation: Installation) -> Iterator[None]:
    """Answer to Events with 500."""
    installation.start()
    with installation.proxy.inject(Answer(500), method="POST", path="/events"):
        for number in range(5):
            installation.create(f"demo-{number}", unscheduled())
            time.sleep(SCRAPE_SECONDS)
        yield


@contextmanager
def refused_lists(installation: Installation) -> Iterator[None]:
    """Answer to the lists of the sweeps with 500. The operator's clock is behind, so that the sweep
    before is half an hour old within a minute."""
    clock = installation.folder / "clock"
    clock.write_text(str(SWEEP_MARGIN_SECONDS - SWEEP_LIMIT_SECONDS))
    environment = {CLOCK_FILE: str(clock)}
    module = "tests.adjusted_operator"
    installation.start("--sweep-seconds=1", module=module, environment=environment)
    poll_until(lambda: _swept(installation), SECONDS, "a sweep", state=installation.tail)
    path = rf"/namespaces/{installation.namespace}/(pods|initpipelines)\?"
    with installation.proxy.inject(Answer(500), method="GET", path=path, watch=False):
        yield


def _swept(installation: Installation) -> list[Any]:
    metric = "initpipeline_sweep_last_success_timestamp_seconds"
    labels = f'namespace="{installation.namespace}",resource="pods"'
    return installation.prometheus.query(f"time() - {metric}{{{labels}}} < {SWEEP_LIMIT_SECONDS}")


@contextmanager
def older_crd(installation: Installation) -> Iterator[None]:
    """Remove a field that no InitPipeline has from the CRD, which all installations share."""
    installation.start("--sweep-seconds=5")
    crds = client.ApiextensionsV1Api(installation.api)
    version = crds.read_custom_resource_definition(CRD_NAME).spec.versions[0]
    field = version.schema.open_apiv3_schema.properties["spec"].properties[FIELD]
    path = f"{SPEC_FIELDS}/{FIELD}"
    crds.patch_custom_resource_definition(CRD_NAME, [{"op": "remove", "path": path}])
    yield
    restored = {
        "op": "add",
        "path": path,
        "value": installation.api.sanitize_for_serialization(field),
    }
    crds.patch_custom_resource_definition(CRD_NAME, [restored])


@contextmanager
def much_memory(installation: Installation) -> Iterator[None]:
    """Let the process occupy 400 MiB more, as with too many objects, and replace it then."""
    more = {MEMORY_MIB: "400"}
    installation.start(module="tests.adjusted_operator", environment=more)
    yield
    installation.remove("a")
    installation.start()


FAULTS: Final[Mapping[str, tuple[Begin, tuple[str, ...]]]] = {
    "server-errors": (server_errors, ("APIErrors", "ReconcileErrors")),
    "throttling": (throttling, ("APIThrottled",)),
    "held-lease": (held_lease, ("NoLeader",)),
    "two-leaders": (second_installation, ("TwoLeaders",)),
    "two-versions": (older_version, ("VersionsDiffer",)),
    "killed-replica": (killed_replica, ("ReplicaDown",)),
    "silent-watch": (silent_watch, ("WatchStale",)),
    "slow-creation": (slow_creation, ("QueueOld", "MirrorLag")),
    "unanswered-read": (unanswered_read, ("ReconcileStuck",)),
    "permission": (withdrawn_permission, ("APIForbidden",)),
    "quota": (exhausted_quota, ("PodsRefused",)),
    "webhook": (unreachable_webhook, ("PodsRefused",)),
    "unreadable": (unreadable_status, ("ObjectsUnreadable",)),
    "stopped": (stopped_process, ("EventLoopBlocked",)),
    "failing-step": (failing_step, ("Stalled",)),
    "deleted-pods": (deleted_pods, ("RerunStorm",)),
    "refused-events": (refused_events, ("EventsDropped",)),
    "refused-lists": (refused_lists, ("NoSweep",)),
    "older-crd": (older_crd, ("CRDSkew",)),
    "much-memory": (much_memory, ("MemoryNear",)),
}
"""The faults by the namespace of their installation, and the alerts that each makes fire."""

ELSEWHERE: Final[Mapping[str, str]] = {
    "NotRunning": "needs that no replica runs at all: test_live.py ends with it",
}
"""Alerts that have no fault in FAULTS, and why."""

Fault = tuple[str, str]


def expected() -> list[Fault]:
    """Returns each installation with each alert that fires for it."""
    return [(place, alert) for place, (_, alerts) in FAULTS.items() for alert in alerts]


def scaled(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the rules with a second in place of each minute of ``for``. The expressions stay."""
    groups = [
        {**group, "rules": [{**rule, "for": shortened(rule["for"])} for rule in group["rules"]]}
        for group in rules["groups"]
    ]
    return {"groups": groups}


def shortened(duration: str) -> str:
    minutes = {"m": 1, "h": 60}[duration[-1]] * int(duration[:-1])
    return f"{minutes}s"
