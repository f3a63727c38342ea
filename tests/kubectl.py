"""Run kubectl, with the arguments that a user types."""

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
"""The default timeout of a command."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl and returns its output.

    Raises CalledProcessError, with the output as a note, if kubectl fails.
    """

    kubeconfig: Path
    namespace: str = ""
    """If empty, kubectl uses the object's namespace or that of the kubeconfig's context."""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = SECONDS
    executable: Path | None = None
    """None: the result of program()."""

    def within(self, namespace: str) -> Self:
        """Return a copy that works in this namespace."""
        return replace(self, namespace=namespace)

    def __call__(self, *arguments: str, stdin: object = None) -> str:
        """Run kubectl. `-f -` reads `stdin`, which is text, an object or a list of objects."""
        return run(self.command(*arguments), stdin, self.environment, self.timeout)

    def json(self, *arguments: str) -> Any:
        """Run kubectl with `-o json` and return the parsed output."""
        return json.loads(self(*arguments, "-o", "json"))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line."""
        options = ["--kubeconfig", str(self.kubeconfig)]
        options += ["--namespace", self.namespace] if self.namespace else []
        return [str(self.executable or program()), *options, *arguments]


def run(
    command: Sequence[str],
    stdin: object = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = SECONDS,
) -> str:
    """Run a command and return its output.

    Raises CalledProcessError, with the output as a note, if the command fails.
    """
    completed = subprocess.run(
        command,
        input=_text(stdin),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    try:
        completed.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(error.stdout + error.stderr)
        raise
    return completed.stdout


def program() -> Path:
    """Return the path of kubectl: the test cluster's if it was built, else the one in PATH.

    If there is neither, build the test cluster's.
    """
    built = build.KUBERNETES.cached() / "kubectl"
    in_path = shutil.which("kubectl")
    if built.exists() or in_path is None:
        return build.built(build.KUBERNETES) / "kubectl"
    return Path(in_path)


def _text(stdin: object) -> str | None:
    if stdin is None or isinstance(stdin, str):
        return stdin
    if isinstance(stdin, list):
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": stdin})
    return json.dumps(stdin)
