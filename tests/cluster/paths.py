"""Where things are: built programs in the user's cache, a cluster's state in /var/tmp."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
# Short on purpose: the path of a unix socket ends at 107 bytes. Not /tmp, which may be in memory.
# A user's own: a folder that root made, no one else could write to.
STATE_ROOT: Final = Path("/var/tmp") / (
    f"initpipeline-{os.geteuid()}" if os.geteuid() else "initpipeline"
)


def cache_root() -> Path:
    """The folder that outlives clusters and clones: built binaries, unpacked packages."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "initpipeline"


@dataclass(frozen=True)
class Layout:
    """The files of one cluster."""

    root: Path

    @classmethod
    def of(cls, name: str) -> "Layout":
        """The files of the cluster of that name, there or not."""
        return cls(STATE_ROOT / name)

    @property
    def lock(self) -> Path:
        """The lock of whoever brings it up or takes it down; beside it, as it comes and goes."""
        return self.root.with_name(f".{self.root.name}.lock")

    @property
    def record(self) -> Path:
        """What this cluster was set up as: its addresses, ports, components and flags."""
        return self.root / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Configuration files and kubeconfigs of components."""
        return self.root / "config"

    @property
    def data(self) -> Path:
        """The data of etcd."""
        return self.root / "etcd"

    @property
    def node(self) -> Path:
        """What the node has in place of the machine's own /run, /var/lib and /var/log."""
        return self.root / "node"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON object a line, level Metadata."""
        return self.root / "audit.log"

    def pid_file(self, process: str) -> Path:
        """Where a process of this cluster is recorded."""
        return self.root / "pid" / process

    def pid_files(self) -> list[Path]:
        """All processes of this cluster that are recorded."""
        return sorted((self.root / "pid").glob("*"))

    def log(self, process: str) -> Path:
        """Where a process of this cluster writes."""
        return self.root / "log" / f"{process}.log"

    def create(self) -> None:
        """Make the folders, closed to other users: they hold an administrator's key."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.pki, self.config, self.data, self.root / "pid", self.root / "log"):
            folder.mkdir(exist_ok=True, mode=0o700)
