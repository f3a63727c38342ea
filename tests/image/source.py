"""The commit from which an image or a release is built."""

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError

PROJECT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Source:
    """A commit, and whether the working tree differs from it."""

    revision: str
    epoch: int
    """Time of the commit, in seconds since 1970: SOURCE_DATE_EPOCH of all builds."""
    changed: bool

    @property
    def label(self) -> str:
        """The revision, marked if files differ from it."""
        return f"{self.revision}-dirty" if self.changed else self.revision

    @property
    def time(self) -> str:
        """Time of the commit, in the format of RFC 3339."""
        moment = datetime.datetime.fromtimestamp(self.epoch, datetime.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def source(project: Path = PROJECT) -> Source:
    """Return the commit of the working tree. Raise ClusterError outside of a git repository."""
    revision, epoch = _git(project, "log", "-1", "--format=%H %ct").split()
    return Source(revision, int(epoch), bool(_git(project, "status", "--porcelain")))


def _git(project: Path, *arguments: str) -> str:
    # Root builds images, often in a working tree of another user.
    command = ["git", "-c", f"safe.directory={project}", "-C", str(project), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ClusterError("git is needed to build: apt-get install git") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1]
        raise ClusterError(f"the build needs a git checkout: {last}") from None
    return answer.stdout
