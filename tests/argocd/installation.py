"""Runs Argo CD beside a cluster: application-controller, repo-server, API server and Redis.

The configuration is that of Argo CD's own manifests and of manifests/argocd/argocd-cm.yaml.
"""

import json
import socket
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.parse import urlencode

from initpipeline.api import names
from tests.cluster import build, debian
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.processes import Daemon, run
from tests.gitops.customizations import FRAGMENT
from tests.gitops.programs import ARGO_CD, ARGO_CD_MODULE
from tests.poll import poll_until
from tests.ports import free_port

NAMESPACE: Final = "argocd"
START_SECONDS: Final = 120.0
RESPONSE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class ArgoCd:
    """Argo CD for a cluster that is up. It must be stopped before the cluster."""

    cluster: Cluster
    redis: int = field(default_factory=free_port)
    repo_server: int = field(default_factory=free_port)
    api_server: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self._configure()
        self._start_redis()
        self._start_argo_cd()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def actions(self, application: str, namespace: str, pipeline: str) -> dict[str, bool]:
        """Returns the actions of a pipeline in the UI, and whether each is enabled."""
        resource = self._resource(namespace, pipeline)
        path = f"applications/{application}/resource/actions?{urlencode(resource)}"
        actions = self._request("GET", path)["actions"]
        return {action["name"]: not action.get("disabled", False) for action in actions}

    def act(self, application: str, namespace: str, pipeline: str, action: str) -> None:
        """Runs an action as the UI does."""
        body = self._resource(namespace, pipeline) | {"name": application, "action": action}
        self._request("POST", f"applications/{application}/resource/actions/v2", body)

    def health(self, application: str, pipeline: str) -> dict[str, str]:
        """Returns the health of a pipeline in the UI: status and message."""
        tree = self._request("GET", f"applications/{application}/resource-tree")
        for node in tree.get("nodes", ()):
            if (node["kind"], node["name"]) == (names.KIND, pipeline):
                return dict(node.get("health", {}))
        return {}

    def _resource(self, namespace: str, pipeline: str) -> dict[str, str]:
        return {
            "namespace": namespace,
            "resourceName": pipeline,
            "group": names.GROUP,
            "version": names.VERSION,
            "kind": names.KIND,
        }

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_server}/api/v1/{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=RESPONSE_SECONDS) as response:
            content: dict[str, Any] = json.load(response)
            return content

    def _configure(self) -> None:
        progress = self.cluster.progress
        manifests = build.module_folder(ARGO_CD, ARGO_CD_MODULE, progress) / "manifests"
        progress("configuring Argo CD with its own manifests")
        self._kubectl("create", "namespace", NAMESPACE)
        self._kubectl("apply", "--server-side", "--kustomize", str(manifests / "crds"))
        self._kubectl("apply", "--kustomize", str(manifests / "base/config"))
        poll_until(self._served, START_SECONDS, "the API server serves Argo CD's resources")
        progress(f"patching argocd-cm with {FRAGMENT.name}")
        self._kubectl("patch", "configmap", "argocd-cm", "--patch-file", str(FRAGMENT))

    def _served(self) -> bool:
        try:
            self._kubectl("get", "applications,applicationsets,appprojects")
        except ClusterError:
            return False
        return True

    def _kubectl(self, *arguments: str) -> None:
        kubeconfig = f"--kubeconfig={self.cluster.kubeconfig}"
        command = [str(self.cluster.kubectl), kubeconfig, f"--namespace={NAMESPACE}", *arguments]
        run(command, f"kubectl {arguments[0]}")

    def _start_redis(self) -> None:
        packages = debian.with_dependencies("redis-server", self.cluster.progress)
        environment = {"PATH": packages.search_path, "LD_LIBRARY_PATH": packages.library_path}
        flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command = ["redis-server", "--port", str(self.redis), *flags]
        self._start("redis", command, self._listening(self.redis), environment)

    def _start_argo_cd(self) -> None:
        shared = ["--redis", f"127.0.0.1:{self.redis}", "--loglevel", "info"]
        client = ["--repo-server", f"127.0.0.1:{self.repo_server}", "--repo-server-plaintext"]
        self._start_program(
            "argocd-repo-server",
            [
                *shared,
                "--disable-tls",
                *("--address", "127.0.0.1"),
                *("--port", str(self.repo_server)),
                *("--metrics-port", str(free_port())),
            ],
            self._listening(self.repo_server),
        )
        # It creates the default project and the session key, which the controller needs.
        self._start_program(
            "argocd-server",
            [
                *(*shared, *client, *self._access()),
                *("--insecure", "--disable-auth", "--address", "127.0.0.1"),
                *("--port", str(self.api_server)),
                *("--metrics-port", str(free_port())),
            ],
            self._responding,
        )
        metrics = free_port()
        self._start_program(
            "argocd-application-controller",
            [*shared, *client, *self._access(), "--metrics-port", str(metrics)],
            self._listening(metrics),
        )

    def _access(self) -> list[str]:
        return [f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={NAMESPACE}"]

    def _start_program(
        self, name: str, arguments: Sequence[str], ready: Callable[[], bool]
    ) -> None:
        program = build.built(ARGO_CD, self.cluster.progress) / name
        folder = self.cluster.layout.root / "argocd"
        folders = {
            variable: folder / variable.lower()
            for variable in (
                "ARGOCD_TLS_DATA_PATH",
                "ARGOCD_SSH_DATA_PATH",
                "ARGOCD_GPG_DATA_PATH",
                "ARGOCD_GNUPGHOME",
                "ARGOCD_PLUGINSOCKFILEPATH",
                "HOME",
                "TMPDIR",
            )
        }
        for path in folders.values():
            path.mkdir(parents=True, exist_ok=True)
        environment = {
            **{variable: str(path) for variable, path in folders.items()},
            "ARGOCD_GPG_ENABLED": "false",
            # Argo CD uses the cluster of the kubeconfig as the one that it runs in.
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "KUBECONFIG": str(self.cluster.kubeconfig),
        }
        self._start(name, [str(program), *arguments], ready, environment)

    def _start(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[], bool],
        environment: dict[str, str],
    ) -> None:
        layout = self.cluster.layout
        daemon = Daemon(name, layout.pid_file(name), layout.log(name))
        self.cluster.progress(f"starting {name}")
        self.stack.callback(daemon.stop)
        daemon.start(command, environment)
        daemon.wait(ready, START_SECONDS, "not ready")

    def _listening(self, port: int) -> Callable[[], bool]:
        def listening() -> bool:
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", port)) == 0

        return listening

    def _responding(self) -> bool:
        try:
            return "items" in self._request("GET", "applications")
        except (URLError, ConnectionError, TimeoutError):
            return False
