"""Paths: built programs are in the user's cache, a cluster's state is in /var/tmp."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
# Short, because the path of a unix socket has at most 107 bytes. Not /tmp, which may be in memory.
# One per user, because other users cannot write to a directory that root created.
STATE_ROOT: Final = Path("/var/tmp") / (
    f"initpipeline-{os.geteuid()}" if os.geteuid() else "initpipeline"
)


def cache_root() -> Path:
    """Return the directory of built binaries and unpacked packages, which all clusters share."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "initpipeline"


@dataclass(frozen=True)
class Layout:
    """The files of one cluster."""

    root: Path

    @classmethod
    def of(cls, name: str) -> "Layout":
        """Return the files of the cluster of that name, which need not exist."""
        return cls(STATE_ROOT / name)

    @property
    def lock(self) -> Path:
        """The lock for starting and removing the cluster, outside of the removed directory."""
        return self.root.with_name(f".{self.root.name}.lock")

    @property
    def record(self) -> Path:
        """The cluster's plan: its addresses, ports, components and flags."""
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
        """The node's /run, /var/lib and /var/log, which hide those of the machine."""
        return self.root / "node"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON object per line, level Metadata."""
        return self.root / "audit.log"

    def pid_file(self, process: str) -> Path:
        """Return the file in which a process of this cluster is recorded."""
        return self.root / "pid" / process

    def pid_files(self) -> list[Path]:
        """Return the files of all recorded processes of this cluster."""
        return sorted((self.root / "pid").glob("*"))

    def log(self, process: str) -> Path:
        """Return the file to which a process of this cluster writes its output."""
        return self.root / "log" / f"{process}.log"

    def create(self) -> None:
        """Create the directories. Other users have no access, since they hold private keys."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.pki, self.config, self.data, self.root / "pid", self.root / "log"):
            folder.mkdir(exist_ok=True, mode=0o700)
