"""Build the image with buildah, on a base image made of the machine's own distribution.

The Dockerfile's default base is a public image. To build without a registry, mmdebstrap creates an
equivalent base of the machine's distribution and release, whose package archive and keys are
configured. The base and unchanged layers of the image are cached.
"""

import ast
import configparser
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from initpipeline import __version__
from tests.cluster.debian import which
from tests.cluster.errors import ClusterError
from tests.cluster.locks import locked
from tests.cluster.paths import cache_root
from tests.cluster.processes import last_line
from tests.cluster.progress import Progress, heartbeat, silent
from tests.image.source import PROJECT, source

IMAGE: Final = f"initpipeline.dev/operator:{__version__}"
"""The name is in the domain of the project's API. No registry serves it: to push the image to a
registry, rename it with `images` in a kustomization over manifests/base."""

TOOLS: Final = ("buildah", "mmdebstrap")
DIGEST: Final = re.compile(r"@(sha256:[0-9a-f]{64})$")
BASE_PACKAGES: Final = ("ca-certificates", "python3", "python3-venv")
# A fifth of the base image. Programs do not read these files.
LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
# Both tools mount /proc and /sys in the image. In namespaces of their own, an interrupted build
# leaves neither mounts nor processes, and deleting its files cannot delete through a mount.
ISOLATED: Final = ("unshare", "--mount", "--pid", "--mount-proc", "--kill-child")
# No image is pulled, so there are no signatures to verify.
POLICY: Final = '{"default": [{"type": "insecureAcceptAnything"}]}'
LAYER_TIME: Final = 0
"""Time of all files and layers, in seconds since 1970. With the time of the commit instead, each
commit would change the layer of the packages, and clusters would pull it again."""


@dataclass(frozen=True)
class Request:
    """The form of an image."""

    base: str | None = None
    """A base in a registry, with its digest. None: a base made of Debian packages."""
    suite: str | None = None
    """The release of the distribution whose packages make the base. None: that of the machine."""
    form: Literal["docker-archive", "oci-archive"] = "docker-archive"
    fresh: bool = False
    """Build all layers above the base again, instead of taking them from the cache."""
    file: Path | None = None
    """The written file. None: a file in the cache, which the next build overwrites."""
    project: Path = PROJECT


def built(progress: Progress = silent, request: Request | None = None) -> Path:
    """Build the image and return its path, by default a file like those of `docker save`.

    Raise ClusterError if a build step fails, or if the base in a registry has no digest.
    """
    if os.geteuid():
        raise ClusterError("building the image needs root, for mounts and chroot: run it as root")
    request = request or Request()
    if request.base is not None and not DIGEST.search(request.base):
        raise ClusterError(f"the base {request.base} needs a digest: NAME:TAG@sha256:...")
    folder = cache_root() / "image"
    with locked(cache_root() / ".image.lock"):
        folder.mkdir(exist_ok=True, parents=True)
        builder = Builder(folder, progress)
        builder.ensure_tools()
        base = request.base or builder.ensure_base(request.suite)
        return builder.build(base, request)


class Builder:
    """buildah with a storage of its own, separate from that of other programs."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._progress = progress
        self._folder = folder
        self._log = folder / "build.log"
        self._log.write_text("")
        self._policy = folder / "policy.json"
        self._policy.write_text(POLICY)

    def ensure_tools(self) -> None:
        """Install buildah and mmdebstrap, unless they are installed."""
        missing = [tool for tool in TOOLS if not which(tool)]
        if not missing:
            return
        if not which("apt-get"):
            raise ClusterError(f"this machine lacks {' and '.join(missing)}: install them")
        # --no-remove, so that another container engine stays installed.
        install = ["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove"]
        with heartbeat(self._progress, f"installing Debian packages: {' '.join(missing)}"):
            self._run(["apt-get", "update", "--quiet"])
            self._run(["apt-get", *install, *missing])

    def ensure_base(self, suite: str | None = None) -> str:
        """Return the name of the base image. Build it if it does not exist."""
        release = platform.freedesktop_os_release()
        own = release.get("VERSION_CODENAME")
        suite = suite or own
        if not suite:
            raise ClusterError("/etc/os-release has no VERSION_CODENAME: use Debian or Ubuntu")
        recipe = hashlib.sha256(repr((BASE_PACKAGES, LEFT_OUT, LAYER_TIME)).encode()).hexdigest()[
            :8
        ]
        name = f"localhost/python-{release['ID']}:{suite}-{recipe}"
        if self._has(name):
            return name
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".base-") as temporary:
            context = Path(temporary)
            doing = f"building a base image of {release['ID']} {suite} (a minute, once per machine)"
            with heartbeat(self._progress, doing):
                sources = [] if suite == own else [f"deb {archive_uri()} {suite} main"]
                self._make_root(suite, context / "root.tar", sources)
                (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
                self._bud(["--tag", name, f"--timestamp={LAYER_TIME}"], context)
        return name

    def build(self, base: str, request: Request) -> Path:
        """Build the image and write it to a file."""
        archive = request.file or self._folder / "operator.tar"
        image = f"{IMAGE}-{request.suite}" if request.suite else IMAGE
        commit = source()
        digest = DIGEST.search(base)
        labels = {
            "BASE": base,
            "BASE_DIGEST": digest[1] if digest else "",
            "VERSION": __version__,
            "REVISION": commit.label,
            "CREATED": commit.time,
        }
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".pip-") as temporary:
            settings = Path(temporary) / "pip.conf"
            settings.write_text(pip_settings())
            arguments = [
                *("--layers", "--network=host", "--tag", image),
                *(("--no-cache",) if request.fresh else ()),
                f"--timestamp={LAYER_TIME}",
                *(f"--build-arg={name}={value}" for name, value in labels.items()),
                *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
                *("--volume", f"{settings}:/etc/pip.conf:ro"),
            ]
            with heartbeat(self._progress, f"building {image} on {base} (log: {self._log})"):
                self._bud(arguments, request.project)
        with heartbeat(self._progress, "writing the image to a file"):
            archive.unlink(missing_ok=True)  # buildah cannot add an image to an existing file
            self._buildah("push", *self._trust, image, f"{request.form}:{archive}:{image}")
            without_times(archive)
        return archive

    @property
    def _trust(self) -> tuple[str, str]:
        return ("--signature-policy", str(self._policy))

    def _make_root(self, suite: str, archive: Path, sources: Sequence[str]) -> None:
        options = ["--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"]
        options += [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
        # Licences have to be distributed with the programs.
        options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        # Not in /tmp, which may be in memory: the uncompressed tree is written there.
        settings = {"TMPDIR": str(archive.parent), "SOURCE_DATE_EPOCH": str(LAYER_TIME)}
        self._run(["mmdebstrap", *options, suite, str(archive), *sources], settings, ISOLATED)

    def _has(self, image: str) -> bool:
        try:
            self._buildah("inspect", "--type=image", "--format={{.FromImageID}}", image)
        except ClusterError:
            return False
        return True

    def _bud(self, arguments: Sequence[str], context: Path) -> None:
        self._buildah("bud", *self._trust, "--isolation=chroot", *arguments, str(context))

    def _buildah(self, *arguments: str) -> None:
        storage = (f"--root={self._folder / 'storage'}", f"--runroot={self._folder / 'run'}")
        self._run(["buildah", *storage, *arguments], prefix=ISOLATED)

    def _run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] = MappingProxyType({}),
        prefix: Sequence[str] = (),
    ) -> None:
        """Run a command and append its output to the log. Raise ClusterError if it fails."""
        with self._log.open("a") as log:
            answer = subprocess.run(
                [*prefix, *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if answer.returncode:
            last = last_line(self._log)
            raise ClusterError(f"{command[0]} failed; last line of the log {self._log}: {last}")


def archive_uri() -> str:
    """Return the first package archive of the machine that has a component main."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Component: main"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        raise ClusterError(
            "no package archive with a component main is configured: run apt-get update"
        )
    return listed[0]


def without_times(archive: Path) -> None:
    """Write a tar archive again, in the order of names, and without the times of its writing."""
    written = archive.with_suffix(".new")
    with tarfile.open(archive) as old, tarfile.open(written, "w") as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime = LAYER_TIME
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    written.replace(archive)


def pip_settings() -> str:
    """Return pip's configuration on this machine, from files and the environment, as one file.

    The build thereby uses the same package index as the machine.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = configparser.RawConfigParser()
    settings.read_dict(_sections(listed.stdout))
    text = io.StringIO()
    settings.write(text)
    return text.getvalue()


def _sections(listed: str) -> dict[str, dict[str, str]]:
    """Return options such as `global.timeout='60'` by section. The environment overrides files."""
    sections: dict[str, dict[str, str]] = {"global": {}}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        section = "global" if section == ":env:" else section
        sections.setdefault(section, {})[option] = str(ast.literal_eval(value))
    return sections
