"""A node's control groups: one folder in each hierarchy, gone with the node.

Every process of its cluster and of its Pods is in there, whatever it forked and whoever adopted it,
so that the kernel itself knows what has to end when the node does.
"""

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.processes import Process, wait_until

ROOT: Final = Path("/sys/fs/cgroup")
END_SECONDS: Final = 30.0
JOIN: Final = 'echo $$ >"$1" && shift && exec "$@"'


@dataclass(frozen=True)
class ControlGroups:
    """The control groups of one node."""

    name: str

    @property
    def path(self) -> str:
        """The group below which the kubelet makes those of Pods."""
        return f"/{self.name}"

    @property
    def _members(self) -> Path:
        """The file by which a process joins the group of the node's own programs."""
        hierarchy = ROOT if _unified() else ROOT / "pids"
        return hierarchy / self.name / "programs" / "cgroup.procs"

    def joining(self, command: Sequence[str]) -> list[str]:
        """The command that joins the groups and becomes this one."""
        return ["/bin/sh", "-c", JOIN, "sh", str(self._members), *command]

    def exist(self) -> bool:
        """Whether they are there."""
        return any(folder.exists() for folder in self._folders())

    def create(self) -> None:
        """Make the group in every hierarchy: the kubelet refuses to start without."""
        for folder in self._folders():
            folder.mkdir(exist_ok=True)
        self._members.parent.mkdir(exist_ok=True)

    def remove(self) -> None:
        """End every process in the groups and remove them."""
        wait_until(self._empty, END_SECONDS, lambda: self._stuck("its processes do not end"))
        wait_until(self._removed, END_SECONDS, lambda: self._stuck("it can't be removed"))

    def end_all_but(self, spared: Collection[int]) -> None:
        """End every process in the groups that has none of these pids, as a power cut does."""
        wait_until(
            lambda: self._empty(spared), END_SECONDS, lambda: self._stuck("its Pods do not end")
        )

    def _empty(self, spared: Collection[int] = ()) -> bool:
        """End what is there; whether nothing was. What forks meanwhile is there the next time."""
        processes = [process for process in map(Process.of, self._pids() - set(spared)) if process]
        for process in processes:
            process.kill()
        return not processes

    def _pids(self) -> set[int]:
        pids: set[int] = set()
        for folder in self._folders():
            for file in folder.glob("**/cgroup.procs"):
                with contextlib.suppress(OSError):  # the group went while it was looked at
                    pids.update(map(int, file.read_text().split()))
        return pids

    def _removed(self) -> bool:
        """Remove the groups, the inner ones first; a group is busy until its last end is over."""
        for folder in self._folders():
            for inner in sorted(folder.glob("**/"), reverse=True):
                try:
                    inner.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
        return True

    def _folders(self) -> list[Path]:
        hierarchies = [ROOT] if _unified() else list(ROOT.iterdir())
        # A symbolic link is a second name of a hierarchy that is in the list already.
        real = (path for path in hierarchies if path.is_dir() and not path.is_symlink())
        return [hierarchy / self.name for hierarchy in real]

    def _stuck(self, what: str) -> ClusterError:
        return ClusterError(f"control group {self.path}: {what}; see {self._members.parent.parent}")


def _unified() -> bool:
    """Whether the machine has control groups of version 2 alone."""
    return (ROOT / "cgroup.controllers").exists()
