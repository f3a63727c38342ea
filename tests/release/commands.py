"""Runs the programs that build a release."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.cluster.errors import ClusterError


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] = MappingProxyType({}),
    folder: Path | None = None,
) -> str:
    """Run a program and return its output. Raise ClusterError with its last line if it fails."""
    answer = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        lines = (answer.stderr.strip() or answer.stdout.strip() or "no output").splitlines()
        name = " ".join(Path(part).name for part in map(str, command[:3]))
        raise ClusterError(f"{name} failed: {lines[-1]}")
    return answer.stdout
