"""Install the programs that a node needs beside Kubernetes, from the Debian or Ubuntu archive.

The container runtime is downloaded and unpacked into the cache, but not installed. Installing it
would start a system service, change /etc, and remove an installed Docker. Only small tools are
installed if the machine does not have them.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.paths import cache_root
from tests.cluster.processes import run
from tests.cluster.progress import Progress, heartbeat, silent

UNPACKED: Final = ("containerd", "runc", "containernetworking-plugins", "busybox-static")
# Program -> the package that has it.
INSTALLED: Final = {
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
}
BINARY_FOLDERS: Final = ("usr/sbin", "usr/bin", "sbin", "bin")


@dataclass(frozen=True)
class Packages:
    """The unpacked packages, in the layout of /."""

    root: Path

    @property
    def search_path(self) -> str:
        """PATH for a process of the node: these programs precede the machine's own."""
        own = [str(self.root / folder) for folder in BINARY_FOLDERS]
        return ":".join([*own, *(f"/{folder}" for folder in BINARY_FOLDERS)])

    @property
    def cni(self) -> Path:
        """The directory of the network plugins."""
        return self.root / "usr/lib/cni"

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH for a program of these packages."""
        folders = ("usr/lib/*-linux-gnu", "usr/lib/*-linux-gnu/pulseaudio")
        return ":".join(str(path) for folder in folders for path in self.root.glob(folder))

    @property
    def busybox(self) -> Path:
        """The static busybox."""
        return next(path for path in self.root.glob("**/bin/busybox"))


def packages(name: str = "packages") -> Packages:
    """Return the location of the unpacked packages, which need not exist yet."""
    release = platform.freedesktop_os_release()
    system = f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'rolling')}"
    return Packages(cache_root() / f"{name}-{system}-{platform.machine()}")


def ensure(progress: Progress = silent) -> Packages:
    """Install and unpack all packages that a node needs, unless that was done before."""
    missing = sorted({package for tool, package in INSTALLED.items() if not which(tool)})
    if missing:
        _install(missing, progress)
    unpacked = packages()
    if not unpacked.root.is_dir():
        _unpack(unpacked.root, ["download", *UNPACKED], UNPACKED, progress)
    return unpacked


def with_dependencies(package: str, progress: Progress = silent) -> Packages:
    """Unpack a package and those of its dependencies that the machine does not have."""
    unpacked = packages(package)
    if not unpacked.root.is_dir():
        # Without --reinstall, apt does not download a package that is installed.
        fetch = ["install", "--download-only", "--reinstall", "--yes", "--no-install-recommends"]
        fetch.append(package)
        _unpack(unpacked.root, fetch, [package], progress)
    return unpacked


def which(program: str) -> str | None:
    """Return the path of a program, even if it is in sbin and PATH does not contain sbin."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _install(missing: Sequence[str], progress: Progress) -> None:
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    with heartbeat(progress, f"installing Debian packages: {' '.join(missing)}"):
        _with_lists(command, Path("/"))


def _unpack(root: Path, fetch: Sequence[str], named: Sequence[str], progress: Progress) -> None:
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix=".packages-") as temporary:
        downloads, made = Path(temporary), Path(temporary) / "made"
        options = {
            # Run by root, apt downloads as a user that cannot write to root's cache.
            "APT::Sandbox::User": "root",
            # Debian's container images are configured to delete downloaded packages at once.
            "APT::Keep-Downloaded-Packages": "true",
            "Dir::Cache::archives": str(downloads),
        }
        (downloads / "partial").mkdir()
        settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        with heartbeat(progress, f"fetching Debian packages, unpacked only: {' '.join(named)}"):
            _with_lists(["apt-get", *fetch, "--quiet", *settings], downloads)
        for package in downloads.glob("*.deb"):
            run(["dpkg-deb", "--extract", str(package), str(made)], f"unpacking {package.name}")
        made.rename(root)


def _with_lists(command: Sequence[str], folder: Path) -> None:
    """Run apt-get. If it fails, update the package lists and run it again."""
    if _apt(command, folder).returncode == 0:
        return
    update = _apt(["apt-get", "update", "--quiet"], folder)
    answer = _apt(command, folder)
    if answer.returncode:
        output = " ".join((answer.stderr or update.stderr).split())[-400:]
        raise ClusterError(f"{' '.join(command[:2])} failed: {output}")


def _apt(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
