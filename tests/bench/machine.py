"""The machine, the commit and the versions of a measurement."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.cluster.build import KUBERNETES_VERSION

ROOT: Final = Path(__file__).parents[2]
KIB_PER_GIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Machine:
    """The circumstances of a measurement that do not change during it."""

    commit: str
    """The commit of this repository. "unknown" if it is not a git repository."""
    modified: bool
    """Whether files differ from the commit."""
    cores: int
    memory_gib: float
    processor: str
    python: str
    kubernetes: str
    peers: Mapping[str, str] = field(default_factory=dict)
    """Versions of other controllers, by the name of their workload."""

    @classmethod
    def here(cls, peers: Mapping[str, str] | None = None) -> Self:
        """Return this machine, and the checkout of this file."""
        return cls(
            commit=_git("rev-parse", "HEAD") or "unknown",
            modified=bool(_git("status", "--porcelain")),
            cores=os.cpu_count() or 0,
            memory_gib=memory_gib(Path("/proc/meminfo").read_text()),
            processor=processor(Path("/proc/cpuinfo").read_text()),
            python=platform.python_version(),
            kubernetes=KUBERNETES_VERSION,
            peers=dict(peers or {}),
        )

    def sentence(self) -> str:
        """Return one sentence for readers of a table."""
        modified = " with local changes" if self.modified else ""
        versions = "".join(f", {name} {version}" for name, version in self.peers.items())
        return (
            f"Commit {self.commit[:12]}{modified}; {self.cores} cores for all processes "
            f"({self.processor}), {self.memory_gib:.0f} GiB of memory; Kubernetes "
            f"{self.kubernetes}, Python {self.python}{versions}."
        )


def memory_gib(meminfo: str) -> float:
    """Return the memory of the machine in GiB, from the text of /proc/meminfo."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return round(int(found[1]) / KIB_PER_GIB, 1) if found else 0.0


def processor(cpuinfo: str) -> str:
    """Return the model of the first core, from the text of /proc/cpuinfo.

    Return the architecture if the file does not name the model.
    """
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _git(*arguments: str) -> str:
    """Return the output of git in this repository. "" if that fails."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
