"""Debian's package of Prometheus, unpacked into the cache. No service is installed."""

import subprocess
from pathlib import Path

from tests.cluster import debian
from tests.cluster.locks import locked
from tests.cluster.paths import cache_root


def folder() -> Path:
    """Return the folder of prometheus and promtool. Download the package if it is missing."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with locked(cache_root() / ".prometheus.lock"):
        return debian.with_dependencies("prometheus").root / "usr/bin"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool. Returns its exit code and output."""
    command = [str(folder() / "promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
