"""Ask Argo CD's Lua engine and kstatus, which are libraries in Go, through one process."""

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

Object = Mapping[str, Any]


class EngineError(Exception):
    """The engine's own words about a question that it could not answer."""


@dataclass(frozen=True)
class Engine:
    """A running engine, and what argocd-cm says of InitPipelines."""

    process: subprocess.Popen[str]
    override: Override

    def health(self, pipeline: Object) -> dict[str, str]:
        """What Argo CD says of its health: status and message."""
        return dict(self._ask("health", pipeline))

    def actions(self, pipeline: Object) -> dict[str, bool]:
        """The actions that Argo CD shows, and whether they are offered."""
        found = self._ask("actions", pipeline)
        return {action["name"]: not action.get("disabled", False) for action in found}

    def act(self, pipeline: Object, action: str) -> Any:
        """The object that Argo CD patches the pipeline to, when a person runs this action."""
        (impacted,) = self._ask("act", pipeline, action)
        assert impacted["operation"] == "patch"
        return impacted["resource"]

    def kstatus(self, pipeline: Object) -> str:
        """The status that kstatus computes."""
        return str(self._ask("kstatus", pipeline)["Status"])

    def _ask(self, what: str, pipeline: Object, action: str = "") -> Any:
        overrides = {f"{names.GROUP}/{names.KIND}": self.override}
        question = {"ask": what, "object": pipeline, "overrides": overrides, "action": action}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["result"]


@contextmanager
def running(override: Override) -> Iterator[Engine]:
    """An engine, for as long as the block lasts; built now if this machine never has."""
    program = built(ENGINE) / ENGINE.name
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Engine(process, override)
