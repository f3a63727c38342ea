"""The control plane: command line, files and health of each component.

The components are processes of this machine. Only this machine can reach their ports.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from tests.cluster import build, kubeconfig
from tests.cluster.api import Api, answers
from tests.cluster.certificates import Authority, Pair
from tests.cluster.paths import Layout
from tests.cluster.plan import Component, Mode, Plan

LOOPBACK: Final = "127.0.0.1"
READY_SECONDS: Final = 90.0
# The group of administrators, as with kubeadm.
ADMINISTRATORS: Final = ("system:masters",)
# Without the stage RequestReceived the log has one line per request.
AUDIT_POLICY: Final[dict[str, Any]] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class ControlPlane:
    """The control plane of one plan, with its programs and files."""

    plan: Plan
    layout: Layout
    programs: Path

    @property
    def authority(self) -> Authority:
        """The cluster's certificate authority."""
        return Authority(self.layout.pki)

    @property
    def api(self) -> Api:
        """A client of the API server, with administrator permissions."""
        user = Pair(self.layout.pki / "client-admin.crt", self.layout.pki / "client-admin.key")
        port = self.plan.ports[Component.API_SERVER]
        return Api(str(self.plan.api_address), port, self.authority.pair, user)

    @property
    def etcd(self) -> str:
        """The URL of etcd."""
        return f"http://{LOOPBACK}:{self.plan.ports[Component.ETCD]}"

    def prepare(self) -> None:
        """Write the certificates, kubeconfigs and files that the components read."""
        authority = self.authority
        authority.establish()
        service, named = self.plan.services[1], IPv4Address(LOOPBACK)
        internal = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        authority.server("kube-apiserver", [named, self.plan.api_address, service, *internal])
        authority.client("kube-apiserver-kubelet-client", ADMINISTRATORS)
        admin = authority.client("admin", ADMINISTRATORS)
        kubeconfig.write(self.layout.kubeconfig, self.plan.server, authority, admin)
        for component in (Component.CONTROLLER_MANAGER, Component.SCHEDULER):
            self.write_kubeconfig(component, f"system:{component}")
        (self.layout.config / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))

    def write_kubeconfig(self, name: str, user: str, groups: tuple[str, ...] = ()) -> Path:
        """Write a kubeconfig of this user and return its path."""
        pair = self.authority.client(user, groups)
        path = self.layout.config / f"{name}.kubeconfig"
        return kubeconfig.write(path, self.plan.server, self.authority, pair)

    def default_service_account(self) -> bool:
        """Return whether Pods can be created in the default namespace."""
        return self.api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def command(self, component: Component) -> list[str]:
        """Return the command line of a component. The plan's flags come last, so they win."""
        flags: dict[Component, Callable[[], list[str]]] = {
            Component.ETCD: self._etcd,
            Component.API_SERVER: self._api_server,
            Component.CONTROLLER_MANAGER: self._controller_manager,
            Component.SCHEDULER: self._scheduler,
        }
        given = self.plan.flags.get(component, ())
        return [str(self._program(component)), *flags[component](), *given]

    def _program(self, component: Component) -> Path:
        old = self.plan.mode is Mode.OLDEST and component is Component.API_SERVER
        return (build.OLDEST.cached() if old else self.programs) / component

    def ready(self, component: Component) -> bool:
        """Return whether a component reports that it is ready."""
        if component is Component.API_SERVER:
            return self.api.ready()
        scheme, path = ("http", "readyz") if component is Component.ETCD else ("https", "healthz")
        return answers(f"{scheme}://{LOOPBACK}:{self.plan.ports[component]}/{path}")

    def _etcd(self) -> list[str]:
        client = self.etcd
        peer = f"http://{LOOPBACK}:{self.plan.ports['etcd-peer']}"
        return [
            f"--name={self.plan.name}",
            f"--data-dir={self.layout.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.plan.name}={peer}",
            # The data need not survive a power failure.
            "--unsafe-no-fsync",
            "--quota-backend-bytes=8589934592",
            "--log-level=warn",
        ]

    def _api_server(self) -> list[str]:
        pki, pair = self.layout.pki, self.authority.service_accounts
        return [
            f"--etcd-servers={self.etcd}",
            f"--bind-address={self.plan.api_address}",
            f"--advertise-address={self.plan.api_address}",
            f"--secure-port={self.plan.ports[Component.API_SERVER]}",
            f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
            f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
            f"--client-ca-file={self.authority.pair.certificate}",
            f"--kubelet-certificate-authority={self.authority.pair.certificate}",
            f"--kubelet-client-certificate={pki / 'client-kube-apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'client-kube-apiserver-kubelet-client.key'}",
            # By default the API server first resolves the node's name, which has no DNS record.
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-cluster-ip-range={self.plan.services}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pair.certificate}",
            f"--service-account-signing-key-file={pair.key}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged",
            f"--audit-policy-file={self.layout.config / 'audit-policy.json'}",
            f"--audit-log-path={self.layout.audit_log}",
            "--audit-log-maxsize=0",  # never rotated: tests read a single file
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
            *self._api_server_without_node(),
            *self._admission(),
        ]

    def _api_server_without_node(self) -> list[str]:
        # No Pod needs the Service "kubernetes", and an endpoint must not be a loopback address.
        return [] if self.plan.network else ["--endpoint-reconciler-type=none"]

    def _admission(self) -> list[str]:
        # Without the controller manager a namespace has no default ServiceAccount. This plugin
        # would then reject every Pod.
        if Component.CONTROLLER_MANAGER not in self.plan.components:
            return ["--disable-admission-plugins=ServiceAccount"]
        return ["--enable-admission-plugins=NodeRestriction"]

    def _controller_manager(self) -> list[str]:
        return [
            *self._client(Component.CONTROLLER_MANAGER),
            f"--root-ca-file={self.authority.pair.certificate}",
            f"--service-account-private-key-file={self.authority.service_accounts.key}",
            f"--cluster-signing-cert-file={self.authority.pair.certificate}",
            f"--cluster-signing-key-file={self.authority.pair.key}",
            "--use-service-account-credentials",
            # The default is a directory in the machine's /usr/libexec.
            f"--flex-volume-plugin-dir={self.layout.root / 'volume-plugins'}",
            *self._raised_limits(),
        ]

    def _scheduler(self) -> list[str]:
        return [*self._client(Component.SCHEDULER), *self._raised_limits()]

    def _client(self, component: Component) -> list[str]:
        config = self.layout.config / f"{component}.kubeconfig"
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.plan.ports[component]}",
            "--leader-elect=false",  # one replica: a restart need not wait for a lease
        ]

    def _raised_limits(self) -> list[str]:
        # A control plane without a node is used for measurements: it keeps Kubernetes' defaults.
        return ["--kube-api-qps=200", "--kube-api-burst=400"] if self.plan.mode is Mode.NODE else []
