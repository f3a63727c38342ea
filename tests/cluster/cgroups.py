"""A node's control groups: one directory in each hierarchy, removed with the node.

Every process of its cluster and of its Pods is in these groups, even if another process has adopted
it. The kernel therefore knows which processes have to end with the node.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.processes import Process
from tests.poll import poll_until

ROOT: Final = Path("/sys/fs/cgroup")
END_SECONDS: Final = 30.0
JOIN: Final = 'echo $$ >"$1" && shift && exec "$@"'


@dataclass(frozen=True)
class ControlGroups:
    """The control groups of one node."""

    name: str

    @property
    def path(self) -> str:
        """The parent group of the Pods' groups, which the kubelet creates."""
        return f"/{self.name}"

    @property
    def _members(self) -> Path:
        """A process joins the group of the node's own programs by writing its pid to this file."""
        hierarchy = ROOT if _unified() else ROOT / "pids"
        return hierarchy / self.name / "programs" / "cgroup.procs"

    def joining(self, command: Sequence[str]) -> list[str]:
        """Return a command that joins the groups and then executes the given one."""
        return ["/bin/sh", "-c", JOIN, "sh", str(self._members), *command]

    def exist(self) -> bool:
        """Return whether any of the groups exists."""
        return any(folder.exists() for folder in self._folders())

    def create(self) -> None:
        """Create the group in every hierarchy. The kubelet refuses to start without it."""
        for folder in self._folders():
            folder.mkdir(exist_ok=True)
        self._members.parent.mkdir(exist_ok=True)

    def remove(self) -> None:
        """End every process in the groups and remove them."""
        self._wait(self._empty, "its processes have ended")
        self._wait(self._removed, "it is removed")

    def end_all_but(self, spared: Collection[int]) -> None:
        """End every process in the groups that has none of these pids, as a power cut does."""
        self._wait(lambda: self._empty(spared), "its Pods have ended")

    def _empty(self, spared: Collection[int] = ()) -> bool:
        """Kill the processes in the groups, and return whether there were none.

        A process that is forked meanwhile is found by the next call.
        """
        processes = [process for process in map(Process.of, self._pids() - set(spared)) if process]
        for process in processes:
            process.kill()
        return not processes

    def _pids(self) -> set[int]:
        pids: set[int] = set()
        for folder in self._folders():
            for file in folder.glob("**/cgroup.procs"):
                with contextlib.suppress(OSError):  # the group was removed meanwhile
                    pids.update(map(int, file.read_text().split()))
        return pids

    def _removed(self) -> bool:
        """Remove the groups, the inner ones first, and return whether all are removed.

        A group is busy until its last process has ended completely.
        """
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

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        group = self._members.parent.parent
        what = f"control group {self.path}: {what} (see {group})"
        poll_until(condition, END_SECONDS, what, error=ClusterError)


def _unified() -> bool:
    """Return whether the machine has control groups of version 2 only."""
    return (ROOT / "cgroup.controllers").exists()
