"""Look before anything is started: one clear line for each thing that is missing.

Ports need no check: a node's API server listens at an address of its own, everything else at
ports that were found free. Addresses are checked where they are chosen, in plan.py.
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
BUILD_GIB: Final = 5  # mostly Go's own caches, of modules and of compiled packages
INSTEAD: Final = "on a machine that can't, use a cluster you have: CLUSTER=current"


def check(mode: Mode) -> None:
    """Raise if this machine can't run such a cluster."""
    found = problems(mode)
    if found:
        raise ClusterError("\n".join([*found, INSTEAD]))


def problems(mode: Mode) -> list[str]:
    """What is missing to run such a cluster here, one line each."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        here, wanted = f"{sys.platform} on {platform.machine()}", " or ".join(ARCHITECTURES)
        return [f"this is {here}: the cluster's programs need Linux on {wanted}"]
    return [*_space(), *(_node() if mode is Mode.NODE else ())]


def _space() -> Iterator[str]:
    to_build = 0 if build.KUBERNETES.cached().is_dir() else BUILD_GIB
    for folder, needed in ((STATE_ROOT, STATE_GIB), (cache_root(), to_build)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / GIB
        if free < needed:
            yield f"{folder} has {free:.1f} GiB free: {needed} GiB are needed"


def _node() -> Iterator[str]:
    if os.geteuid():
        yield (
            "a node needs root, for namespaces and containers: run it as root, or have an API "
            "server alone with --control-plane-only"
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
        yield f"there is no {', no '.join(missing)} here, and no apt-get to install it: install it"
    if not debian.packages().root.is_dir():
        yield "there is no apt-get here to fetch containerd with: Debian or Ubuntu is needed"


def _namespaces() -> Iterator[str]:
    """Try it: what a container lacks to make namespaces and mounts has many names."""
    mount = ["unshare", "--mount", "--net", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        answer = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        yield "there is no unshare here: install the package util-linux"
        return
    if answer.returncode:
        said = " ".join(answer.stderr.split())
        yield f"namespaces can't be made here ({said}): a container needs to be privileged"


def _control_groups() -> Iterator[str]:
    unified, divided = CONTROL_GROUPS / "cgroup.controllers", CONTROL_GROUPS / "pids"
    hierarchy = CONTROL_GROUPS if unified.exists() else divided
    if not Path(hierarchy, "cgroup.procs").exists():
        yield f"no control groups are mounted at {CONTROL_GROUPS}: the kubelet needs them"
    elif not os.access(hierarchy, os.W_OK) or _read_only(hierarchy):
        yield f"{hierarchy} can't be written: a container needs to be privileged"


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
