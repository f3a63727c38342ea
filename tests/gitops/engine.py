"""Runs Argo CD's Lua engine and kstatus, which are Go libraries, in one process."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from initpipeline.api import names
from tests.cluster.build import built
from tests.gitops.customizations import Override
from tests.gitops.programs import ENGINE


class EngineError(Exception):
    """The engine's message about a request that failed."""


@dataclass(frozen=True)
class Engine:
    """A running engine, and the customizations of argocd-cm."""

    process: subprocess.Popen[str]
    override: Override

    def health(self, pipeline: Mapping[str, Any]) -> dict[str, str]:
        """Returns the health in Argo CD: status and message."""
        return dict(self._request("health", pipeline))

    def actions(self, pipeline: Mapping[str, Any]) -> dict[str, bool]:
        """Returns the actions in Argo CD, and whether each is enabled."""
        actions = self._request("actions", pipeline)
        return {action["name"]: not action.get("disabled", False) for action in actions}

    def act(self, pipeline: Mapping[str, Any], action: str) -> Any:
        """Returns the object to which Argo CD patches the pipeline when a user runs the action."""
        (impacted,) = self._request("act", pipeline, action)
        assert impacted["operation"] == "patch"
        return impacted["resource"]

    def kstatus(self, pipeline: Mapping[str, Any]) -> str:
        """Returns the status that kstatus computes."""
        return str(self._request("kstatus", pipeline)["Status"])

    def _request(self, what: str, pipeline: Mapping[str, Any], action: str = "") -> Any:
        overrides = {f"{names.GROUP}/{names.KIND}": self.override}
        request = {"ask": what, "object": pipeline, "overrides": overrides, "action": action}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["result"]


@contextmanager
def running(override: Override) -> Iterator[Engine]:
    """Runs an engine during the block. Builds it if this machine has not built it before."""
    program = built(ENGINE) / ENGINE.name
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Engine(process, override)
