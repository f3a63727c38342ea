"""Inject the faults: into replicas, their Leases, the API server and the node."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Final

import urllib3
from kubernetes import client

from tests.api_client import connected
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.faultproxy import (
    Answer,
    Cut,
    Latency,
    LostResponse,
    Reset,
    Silence,
    Truncated,
    Unanswered,
    WatchFault,
    error_event,
)
from tests.faultproxy import Fault as RequestFault
from tests.soak.replicas import LEASE_NAMESPACE, Replica, holder
from tests.soak.schedule import HOLDER, OF_CONNECTIONS, OF_REPLICAS, Fault, Step

RESTARTED: Final = {
    Fault.API_RESTART: Component.API_SERVER,
    Fault.CONTROLLERS_RESTART: Component.CONTROLLER_MANAGER,
    Fault.SCHEDULER_RESTART: Component.SCHEDULER,
    Fault.KUBELET_RESTART: Component.KUBELET,
}
PAUSED: Final = {Fault.API_PAUSE: Component.API_SERVER, Fault.ETCD_PAUSE: Component.ETCD}
CONNECTIONS: Final[dict[Fault, tuple[RequestFault | WatchFault, ...]]] = {
    Fault.SLOW_REQUESTS: (Latency(1),),
    Fault.RESET_REQUESTS: (Reset(),),
    Fault.LOST_RESPONSES: (LostResponse(),),
    Fault.TRUNCATED_RESPONSES: (Truncated(),),
    Fault.ANSWER_429: (Answer(429, retry_after=2),),
    Fault.ANSWER_500: (Answer(500),),
    Fault.PARTITION: (Silence(), Unanswered()),
    Fault.CUT_WATCHES: (Cut(by_reset=True),),
    Fault.SILENT_WATCHES: (Silence(),),
    Fault.WATCH_410: (error_event(410),),
    Fault.WATCH_500: (error_event(500),),
}
REQUEST_SECONDS: Final = 5.0


class Faults:
    """Injects one fault after the other."""

    def __init__(
        self, cluster: Cluster, replicas: Sequence[Replica], figures: Counter[str]
    ) -> None:
        self._cluster = cluster
        self._replicas = list(replicas)
        self._figures = figures
        self._last_holder = replicas[0]
        self._stopped: set[Component] = set()

    def run(self, steps: Sequence[Step], clock: Callable[[], float]) -> None:
        """Inject the faults at their times. Returns when all are over."""
        for step in steps:
            time.sleep(max(0.0, step.at - clock()))
            self._figures[f"faults: {step.action} {step.value}".strip()] += 1
            self._inject(step)

    def restart_components(self) -> None:
        """Start each component that has ended by itself. A scheduler ends if its cache contradicts
        the API server, and a kubelet or systemd would restart it."""
        for component in self._cluster.present():
            if component not in self._stopped and self._cluster.pid(component) is None:
                self._figures[f"ends of {component}: by itself"] += 1
                self._cluster.start(component)

    def restart_garbage_collector(self) -> None:
        """Restart the controller manager, which discards what its garbage collector knows."""
        self._restart(Component.CONTROLLER_MANAGER, 0)

    def _inject(self, step: Step) -> None:
        seconds = float(step.value or 0)
        if step.action in OF_REPLICAS:
            self._on_replica(Fault(step.action), self._target(step.target), seconds)
        elif step.action in RESTARTED:
            self._restart(RESTARTED[Fault(step.action)], seconds)
        elif step.action in PAUSED:
            pid = self._cluster.pid(PAUSED[Fault(step.action)])
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        else:
            self._on_lease(step.action)

    def _restart(self, component: Component, seconds: float) -> None:
        self._stopped.add(component)
        self._cluster.stop(component)
        time.sleep(seconds)
        self._cluster.start(component)
        self._stopped.remove(component)

    def _on_replica(self, action: Fault, replica: Replica, seconds: float) -> None:
        if action in OF_CONNECTIONS:
            with ExitStack() as stack:
                for fault in CONNECTIONS[action]:
                    stack.enter_context(replica.proxy.inject(fault))
                time.sleep(seconds)
            return
        match action:
            case Fault.KILL:
                replica.send(signal.SIGKILL)
            case Fault.REPLACE:
                replica.replace()
            case Fault.TERM:
                replica.send(signal.SIGTERM)
            case Fault.PAUSE:
                replica.send(signal.SIGSTOP)
                time.sleep(seconds)
                replica.send(signal.SIGCONT)

    def _on_lease(self, action: str) -> None:
        with connected(self._cluster.kubeconfig) as api:
            leases = client.CoordinationV1Api(api)
            for name in self._leases(leases):
                if action == Fault.LEASE_DELETE:
                    leases.delete_namespaced_lease(name, LEASE_NAMESPACE)
                    continue
                by_hand = {"holderIdentity": "a-user"}
                short = {"leaseDurationSeconds": 1}
                spec = by_hand if action == Fault.LEASE_HOLDER else short
                leases.patch_namespaced_lease(name, LEASE_NAMESPACE, {"spec": spec})

    def _target(self, target: str) -> Replica:
        if target != HOLDER:
            return self._replicas[int(target)]
        # In an outage, the holder is the last one that was observed.
        with (
            suppress(client.ApiException, urllib3.exceptions.HTTPError, OSError),
            connected(self._cluster.kubeconfig) as api,
        ):
            leases = client.CoordinationV1Api(api)
            for name in self._leases(leases):
                lease = leases.read_namespaced_lease(name, LEASE_NAMESPACE)
                found = holder(self._replicas, lease.spec.holder_identity or "")
                self._last_holder = found or self._last_holder
        return self._last_holder

    def _leases(self, leases: client.CoordinationV1Api) -> list[str]:
        listed = leases.list_namespaced_lease(LEASE_NAMESPACE, _request_timeout=REQUEST_SECONDS)
        return [one.metadata.name for one in listed.items]
