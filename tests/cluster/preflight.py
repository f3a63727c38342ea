"""Check the machine before anything is started, and report each missing requirement in one line.

Ports need no check: a node's API server has an address of its own, and other components use free
ports. plan.py checks addresses.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.cluster import build, debian
from tests.cluster.cgroups import ROOT as CONTROL_GROUPS
from tests.cluster.errors import ClusterError
from tests.cluster.images import ARCHITECTURES
from tests.cluster.paths import STATE_ROOT, cache_root
from tests.cluster.plan import Mode

GIB: Final = 2**30
STATE_GIB: Final = 1
BUILD_GIB: Final = 5  # mostly Go's caches of modules and of compiled packages
ALTERNATIVE: Final = "alternatively, use an existing cluster: CLUSTER=current"


def check(mode: Mode) -> None:
    """Raise ClusterError if this machine cannot run such a cluster."""
    missing = problems(mode)
    if missing:
        raise ClusterError("\n".join([*missing, ALTERNATIVE]))


def problems(mode: Mode) -> list[str]:
    """Return the requirements of such a cluster that this machine lacks, one line each."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        machine, needed = f"{sys.platform} on {platform.machine()}", " or ".join(ARCHITECTURES)
        return [f"this machine is {machine}: the cluster needs Linux on {needed}"]
    return [*_space(), *(_node() if mode is Mode.NODE else ())]


def _space() -> Iterator[str]:
    to_build = 0 if build.KUBERNETES.cached().is_dir() else BUILD_GIB
    for folder, needed in ((STATE_ROOT, STATE_GIB), (cache_root(), to_build)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / GIB
        if free < needed:
            yield f"{folder} has {free:.1f} GiB free: free at least {needed} GiB"


def _node() -> Iterator[str]:
    if os.geteuid():
        yield (
            "a node needs root, for namespaces and containers: run the command as root, or start "
            "only an API server with --control-plane-only"
        )
        return
    yield from _packages()
    yield from _namespaces()
    yield from _control_groups()


def _packages() -> Iterator[str]:
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        return
    missing = [tool for tool in debian.INSTALLED if not debian.which(tool)]
    if missing:
        yield f"this machine has neither {', '.join(missing)} nor apt-get to install it: install it"
    if not debian.packages().root.is_dir():
        yield "this machine has no apt-get to download containerd: use Debian or Ubuntu"


def _namespaces() -> Iterator[str]:
    # Trying is the only reliable check: many settings can deny namespaces to a container.
    mount = ["unshare", "--mount", "--net", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        answer = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        yield "this machine has no unshare: install the package util-linux"
        return
    if answer.returncode:
        error = " ".join(answer.stderr.split())
        yield f"namespaces cannot be created ({error}): in a container, make it privileged"


def _control_groups() -> Iterator[str]:
    unified, divided = CONTROL_GROUPS / "cgroup.controllers", CONTROL_GROUPS / "pids"
    hierarchy = CONTROL_GROUPS if unified.exists() else divided
    if not Path(hierarchy, "cgroup.procs").exists():
        yield f"no control groups are mounted at {CONTROL_GROUPS}: mount them for the kubelet"
    elif not os.access(hierarchy, os.W_OK) or _read_only(hierarchy):
        yield f"{hierarchy} is not writable: in a container, make it privileged"


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
