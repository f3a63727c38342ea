"""kubectl, as people have it: what they type is what a test runs."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from tests.cluster import build

SECONDS: Final = 120.0
"""No command may take longer: one that hangs is a failure."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl and returns what it printed.

    A failure is a CalledProcessError with kubectl's own words in it.
    """

    kubeconfig: Path
    namespace: str = ""
    """Empty: that of the kubeconfig's context, unless an object says."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def within(self, namespace: str) -> Self:
        """The same, for what is in this namespace."""
        return replace(self, namespace=namespace)

    def __call__(self, *arguments: str, stdin: object = None) -> str:
        """Run it. `stdin` is what `-f -` reads: text, an object, or a list of objects."""
        return run(self.command(*arguments), stdin, self.environment)

    def json(self, *arguments: str) -> Any:
        """What it printed with `-o json`."""
        return json.loads(self(*arguments, "-o", "json"))

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        where = ["--kubeconfig", str(self.kubeconfig)]
        where += ["--namespace", self.namespace] if self.namespace else []
        return [str(program()), *where, *arguments]


def run(
    command: Sequence[str], stdin: object = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run any command as above."""
    answer = subprocess.run(
        command,
        input=_text(stdin),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    try:
        answer.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(error.stdout + error.stderr)
        raise
    return answer.stdout


def program() -> Path:
    """The one of the test cluster's version; on a machine that has built none, the user's own."""
    built = build.KUBERNETES.cached() / "kubectl"
    own = shutil.which("kubectl")
    if built.exists() or own is None:
        return build.built(build.KUBERNETES) / "kubectl"
    return Path(own)


def _text(stdin: object) -> str | None:
    if stdin is None or isinstance(stdin, str):
        return stdin
    if isinstance(stdin, list):
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": stdin})
    return json.dumps(stdin)
