"""Installations of the operator on one cluster, each in a namespace that Prometheus knows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, manifest
from tests.cluster.cluster import Cluster
from tests.faultproxy import FaultProxy
from tests.monitoring.prometheus import Prometheus
from tests.operator_process import OperatorProcess
from tests.ports import free_port
from tests.templates import container, template

LEASE: Final = "initpipeline"


def unscheduled(*commands: str) -> Raw:
    """Returns a Pod template whose Pod no scheduler binds, so that no kubelet runs it."""
    steps = [container(f"step-{number}", command) for number, command in enumerate(commands)]
    return template(*(steps or [container("one")]), schedulerName="none")


@dataclass
class Installation:
    """The operator of one namespace. Its requests pass through a proxy that can inject faults."""

    cluster: Cluster
    api: client.ApiClient
    prometheus: Prometheus
    namespace: str
    folder: Path
    proxy: FaultProxy
    replicas: dict[str, OperatorProcess] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def user(self) -> str:
        """The user name of its replicas."""
        return f"operator-{self.namespace}"

    @property
    def pipelines(self) -> Pipelines:
        return Pipelines(self.api, self.namespace)

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    def create(self, name: str, pod: Raw, **policies: Any) -> None:
        """Create an InitPipeline with this Pod template."""
        self.pipelines.create(manifest(name, {"template": pod, **policies}))

    def start(
        self,
        *arguments: str,
        name: str = "a",
        groups: tuple[str, ...] = ("system:masters",),
        module: str = "initpipeline",
        environment: Mapping[str, str] | None = None,
    ) -> OperatorProcess:
        """Start a replica of this name, and let Prometheus scrape it."""
        upstream = self.cluster.kubeconfig_for(self.user, groups)
        address = f"127.0.0.1:{free_port()}"
        settings = {
            "INITPIPELINE_LEASE_NAME": LEASE,
            "INITPIPELINE_LEASE_NAMESPACE": self.namespace,
            "INITPIPELINE_IDENTITY": f"{self.namespace}-{name}",
            **(environment or {}),
        }
        process = OperatorProcess(
            self.proxy.kubeconfig(upstream),
            self.folder / f"{name}.log",
            ["--namespace", self.namespace, "--metrics-address", address, *arguments],
            settings,
            module,
        )
        self.replicas[name], self.addresses[name] = process, address
        process.start()
        self.prometheus.scrape(address, self.namespace, f"initpipeline-{name}")
        return process

    def remove(self, name: str) -> None:
        """Stop a replica. Prometheus scrapes it no longer, as if its Pod were deleted."""
        self.replicas.pop(name).kill()
        self.prometheus.forget(self.addresses.pop(name))

    def end(self) -> None:
        """End all replicas."""
        for process in self.replicas.values():
            if process.running:
                process.kill()

    def tail(self) -> str:
        """Returns the ends of the logs, for the message of a failure."""
        return json.dumps({name: one.tail()[-600:] for name, one in self.replicas.items()})
