"""Several replicas of the operator that share a Lease."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kubernetes import client

from initpipeline.api.models import format_micro_time
from tests.operator_process import OperatorProcess, PreloadedOperator
from tests.poll import poll_until

LEASE: Final = "replicas"
FAILOVER_SECONDS: Final = 60
"""Longer than any failover, because machines are slow at times."""


class Replicas:
    """Operators of one namespace that share a Lease in it."""

    def __init__(self, kubeconfig: Path, api: client.ApiClient, namespace: str, logs: Path) -> None:
        self._kubeconfig, self._namespace, self._logs = kubeconfig, namespace, logs
        self.scope: Sequence[str] = ("--namespace", namespace)
        """The arguments that choose the namespaces that the replicas watch."""
        self._leases = client.CoordinationV1Api(api)
        self.started: list[OperatorProcess] = []

    def start(
        self,
        identity: str,
        *arguments: str,
        event: str = "operator started",
        kubeconfig: Path | None = None,
    ) -> OperatorProcess:
        """Start a replica. Returns when it has logged this event."""
        environment = {
            "INITPIPELINE_LEASE_NAME": LEASE,
            "INITPIPELINE_LEASE_NAMESPACE": self._namespace,
            "INITPIPELINE_IDENTITY": identity,
        }
        process = PreloadedOperator(
            kubeconfig or self._kubeconfig,
            self._logs / f"{identity}.log",
            [*self.scope, "--sweep-seconds", "99999", *arguments],
            environment,
        )
        self.started.append(process)
        process.start(event)
        return process

    def holder(self) -> str:
        """Returns the holder of the Lease. Empty: the Lease is free, or does not exist."""
        leases = self._leases.list_namespaced_lease(self._namespace).items
        return next((one.spec.holder_identity or "" for one in leases), "")

    def put(self, holder: str, seconds: int) -> None:
        """Write the Lease as this holder, with this duration, or create it."""
        renewed = format_micro_time(datetime.now(UTC))
        spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": renewed}
        body = {"metadata": {"name": LEASE}, "spec": spec}
        if self.holder():
            self._leases.patch_namespaced_lease(LEASE, self._namespace, body)
        else:
            self._leases.create_namespaced_lease(self._namespace, body)

    def delete(self) -> None:
        """Delete the Lease."""
        self._leases.delete_namespaced_lease(LEASE, self._namespace)

    def wait_for(self, holder: str) -> None:
        """Wait until this replica holds the Lease."""
        poll_until(
            lambda: self.holder() == holder,
            FAILOVER_SECONDS,
            f"{holder} holds the Lease",
            state=lambda: "\n".join(process.tail() for process in self.started),
        )

    def stop(self) -> None:
        for process in self.started:
            if process.running:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()


@contextmanager
def paused(process: OperatorProcess) -> Iterator[None]:
    """Stops the process within the context, as if its machine slept."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
