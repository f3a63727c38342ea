"""An Application, its states in Argo CD, and the pipelines that it syncs."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.api_client import Pipelines
from tests.argocd.installation import NAMESPACE, ArgoCd
from tests.argocd.repository import Repository
from tests.cluster.progress import Progress
from tests.e2e.e2e_env import E2EEnv
from tests.poll import poll_until
from tests.watching import WatchLog

APPLICATIONS: Final = ("argoproj.io", "v1alpha1", NAMESPACE, "applications")
REFRESH: Final = "argocd.argoproj.io/refresh"
SECONDS: Final = 120.0
HEALTH_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Application:
    """An Application that syncs a directory of the repository to the namespace of the same name."""

    argo_cd: ArgoCd
    repository: Repository
    env: E2EEnv
    watch_log: WatchLog
    progress: Progress

    @property
    def name(self) -> str:
        """Name of the Application, the directory and the namespace."""
        return self.env.namespace

    def create(self, *options: str, compare: str = "") -> None:
        """Creates it with automated sync, pruning, self-heal and these sync options."""
        annotations = {"argocd.argoproj.io/compare-options": compare} if compare else {}
        source = {"repoURL": self.repository.url, "targetRevision": "main", "path": self.name}
        policy = {"automated": {"prune": True, "selfHeal": True}, "syncOptions": list(options)}
        spec = {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": self.name},
            "syncPolicy": policy,
        }
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": self.name, "annotations": annotations},
            "spec": spec,
        }
        self._custom.create_namespaced_custom_object(*APPLICATIONS, body)

    def write(self, name: str, template: dict[str, Any], **more: Any) -> None:
        """Commits a pipeline to its directory."""
        self.repository.write(self.name, name, template, **more)

    def wait(self, sync: str, health: str, since: int = 0) -> int:
        """Waits for a sync and health status in a version of the Application after ``since``.
        Returns that version."""
        state = self._wait(
            f"{sync} and {health}", lambda state: sync_and_health(state) == (sync, health), since
        )
        self.progress(f"Argo CD reports {sync}, {health}")
        return version(state)

    def wait_failed(self, message: str, since: int = 0) -> None:
        """Waits until a sync, or the comparison before it, has failed with this message after
        ``since``. While Argo CD retries, it reports the failure of the last attempt."""
        self._wait(f"failed: {message}", lambda state: message in _failures(state), since)
        self.progress(f"Argo CD reports: {message}")

    def states(self, since: int = 0) -> list[tuple[str, str]]:
        """Returns the sync and health statuses since this version, without repetition."""
        statuses = (
            sync_and_health(state)
            for state in self.watch_log.of(self.name)
            if version(state) >= since
        )
        return [status for status, _ in itertools.groupby(statuses)]

    def refresh(self) -> int:
        """Makes Argo CD compare git and cluster without its caches, and waits until it has.
        Returns the version of the Application since which its status is based on that."""
        requested = self._custom.patch_namespaced_custom_object(
            *APPLICATIONS, self.name, {"metadata": {"annotations": {REFRESH: "hard"}}}
        )
        refreshed = self._wait(
            "it is refreshed",
            lambda state: REFRESH not in state["metadata"].get("annotations", {}),
            version(requested),
        )
        return version(refreshed)

    def wait_health(self, pipeline: str, condition: Callable[[dict[str, str]], bool]) -> None:
        """Refreshes until a pipeline's health in Argo CD meets the condition.

        Argo CD processes a new status only if it changes the health. It processes changes in
        batches, so that one refresh may come too early.
        """
        health: dict[str, str] = {}

        def refreshed() -> bool:
            self.refresh()
            health.clear()
            health.update(self.argo_cd.health(self.name, pipeline))
            return condition(health)

        what = f"Argo CD reports the expected health of {pipeline}"
        poll_until(refreshed, HEALTH_SECONDS, what, state=lambda: health)

    def act(self, pipeline: str, action: str) -> None:
        """Runs an action as the UI does."""
        self.progress(f"action {action} on {pipeline}")
        self.argo_cd.act(self.name, self.name, pipeline, action)

    def delete(self) -> None:
        """Deletes it, but not its resources. They are deleted with the namespace."""
        self._custom.delete_namespaced_custom_object(*APPLICATIONS, self.name)

    def pipelines(self) -> list[str]:
        """Returns the names of the pipelines that exist."""
        pipelines = Pipelines(self.env.api, self.name).list()
        return sorted(one["metadata"]["name"] for one in pipelines)

    def _wait(self, what: str, condition: Callable[[Raw], bool], since: int) -> Raw:
        return self.watch_log.wait(
            self.name, what, lambda state: version(state) > since and condition(state), SECONDS
        )

    @property
    def _custom(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.env.api)


def applications(api: client.ApiClient) -> WatchLog:
    """Starts to record the states of all Applications."""
    function = client.CustomObjectsApi(api).list_namespaced_custom_object
    return WatchLog(function, *APPLICATIONS)


def version(state: Raw) -> int:
    """Returns a number that is higher for later states."""
    return int(state["metadata"]["resourceVersion"])


def _failures(state: Raw) -> str:
    """Returns the messages that the UI shows: of the last sync, and of the conditions."""
    status = state.get("status", {})
    reports = [status.get("operationState", {}), *status.get("conditions", ())]
    return "\n".join(report.get("message", "") for report in reports)


def sync_and_health(state: Raw) -> tuple[str, str]:
    """Returns the sync and health status. "": Argo CD has not reported it yet."""
    status = state.get("status", {})
    sync = status.get("sync", {}).get("status", "")
    return sync, status.get("health", {}).get("status", "")
