"""An Application, what Argo CD said of it, and the pipelines that it brings."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kubernetes import client

from initpipeline.api import names
from tests.argocd.installation import NAMESPACE, ArgoCd
from tests.argocd.repository import Repository
from tests.cluster.progress import Progress
from tests.e2e.conftest import E2EEnv
from tests.poll import poll_until
from tests.watching import Object, WatchLog

WHERE: Final = ("argoproj.io", "v1alpha1", NAMESPACE, "applications")
REFRESH: Final = "argocd.argoproj.io/refresh"
SECONDS: Final = 120.0
HEALTH_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Application:
    """An Application of one directory of the repository, into one namespace. Its name is both."""

    argo_cd: ArgoCd
    repository: Repository
    env: E2EEnv
    watch_log: WatchLog
    progress: Progress

    @property
    def name(self) -> str:
        """Its name, the directory's, and the namespace's."""
        return self.env.namespace

    def create(self, *options: str, compare: str = "") -> None:
        """Begin to sync, by itself, with pruning and self-heal, and with these options."""
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
        self._custom.create_namespaced_custom_object(*WHERE, body)

    def write(self, name: str, template: dict[str, Any], **more: Any) -> None:
        """Commit a pipeline to its directory."""
        self.repository.write(self.name, name, template, **more)

    def wait(self, sync: str, health: str, since: int = 0) -> int:
        """Wait until Argo CD says so, in a version of the Application later than this one; the
        version in which it does."""
        found = self._wait(
            f"{sync} and {health}", lambda state: said(state) == (sync, health), since
        )
        self.progress(f"Argo CD says {sync}, {health}")
        return version(found)

    def wait_failed(self, words: str, since: int = 0) -> None:
        """Wait until a sync, or the comparison before it, has failed after this version with these
        words. Argo CD tries again, and tells the failure of the last try meanwhile."""
        self._wait(f"failed: {words}", lambda state: words in _failures(state), since)
        self.progress(f"Argo CD says: {words}")

    def states(self, since: int = 0) -> list[tuple[str, str]]:
        """What Argo CD said, sync and health, from this version on and without repetition."""
        told = (said(state) for state in self.watch_log.of(self.name) if version(state) >= since)
        return [state for state, _ in itertools.groupby(told)]

    def refresh(self) -> int:
        """Have it look at git and cluster anew, forgetting what it knew, and wait until it has. The
        version from which on it speaks of what it saw then."""
        asked = self._custom.patch_namespaced_custom_object(
            *WHERE, self.name, {"metadata": {"annotations": {REFRESH: "hard"}}}
        )
        seen = self._wait(
            "it has looked anew",
            lambda state: REFRESH not in state["metadata"].get("annotations", {}),
            version(asked),
        )
        return version(seen)

    def wait_health(self, pipeline: str, condition: Callable[[dict[str, str]], bool]) -> None:
        """Refresh until what it says of a pipeline's health meets the condition: by itself Argo CD
        looks at a new status only where it changes the health, and it takes note of changes in
        batches, so that one refresh may come too early."""
        said: dict[str, str] = {}

        def refreshed() -> bool:
            self.refresh()
            said.clear()
            said.update(self.argo_cd.health(self.name, pipeline))
            return condition(said)

        what = f"Argo CD reports the expected health of {pipeline}"
        poll_until(refreshed, HEALTH_SECONDS, what, state=lambda: said)

    def act(self, pipeline: str, action: str) -> None:
        """Run an action as a person in the UI does."""
        self.progress(f"action {action} on {pipeline}")
        self.argo_cd.act(self.name, self.name, pipeline, action)

    def delete(self) -> None:
        """Delete it, and not what it brought: the namespace's end does that."""
        self._custom.delete_namespaced_custom_object(*WHERE, self.name)

    def pipelines(self) -> list[str]:
        """The names of the pipelines that exist."""
        found = self._custom.list_namespaced_custom_object(
            names.GROUP, names.VERSION, self.name, names.PLURAL
        )
        return sorted(item["metadata"]["name"] for item in found["items"])

    def _wait(self, what: str, condition: Callable[[Object], bool], since: int) -> Object:
        return self.watch_log.wait(
            self.name, what, lambda state: version(state) > since and condition(state), SECONDS
        )

    @property
    def _custom(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.env.api)


def applications(api: client.ApiClient) -> WatchLog:
    """The watch log of all Applications."""
    function = client.CustomObjectsApi(api).list_namespaced_custom_object
    return WatchLog(function, *WHERE)


def version(state: Object) -> int:
    """Which of two states is later."""
    return int(state["metadata"]["resourceVersion"])


def _failures(state: Object) -> str:
    """What the UI shows of them: the last sync's message, and the Application's conditions."""
    status = state.get("status", {})
    told = [status.get("operationState", {}), *status.get("conditions", ())]
    return "\n".join(one.get("message", "") for one in told)


def said(state: Object) -> tuple[str, str]:
    """Sync and health, "" for what it has yet to say."""
    status = state.get("status", {})
    sync = status.get("sync", {}).get("status", "")
    return sync, status.get("health", {}).get("status", "")
