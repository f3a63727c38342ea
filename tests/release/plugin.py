"""The single-file plugin, one archive per platform, and its krew manifest.

Each archive contains one file, a Python zip application with all packages. Compiled modules are
included for each supported CPython, since krew selects archives by platform only (decision 0031).
"""

import hashlib
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress, heartbeat
from tests.release.archives import files_of, tar_gz, zip_of
from tests.release.commands import run
from tests.release.lock import Pinned, locked_packages

PROGRAM: Final = "kubectl-initpipeline"
ROOTS: Final = (
    "aiohttp",
    "jinja2",
    "markupsafe",
    "msgspec",
    "pydantic",
    "pykube-ng",
    "pyyaml",
    "requests",
    "rich",
)
"""The packages that the plugin, the core and the API models import."""
COMPILED: Final = frozenset({"markupsafe", "msgspec", "pydantic-core", "pyyaml"})
"""The packages without a wheel for all platforms."""
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
SHEBANG: Final = b"#!/usr/bin/env python3\n"
# Files that describe an installation, not the package.
_OF_INSTALLATION: Final = re.compile(
    r"(^|/)__pycache__/|^bin/|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$"
)


@dataclass(frozen=True)
class Platform:
    """An operating system and an architecture, as krew and Go name them."""

    os: str
    arch: str
    tags: tuple[str, ...]
    """The platform tags of wheels, preferred first."""

    @property
    def name(self) -> str:
        """The part of a file's name."""
        return f"{self.os}-{self.arch}"


def _linux(machine: str) -> tuple[str, ...]:
    return (f"manylinux_2_28_{machine}", f"manylinux_2_17_{machine}", f"manylinux2014_{machine}")


PLATFORMS: Final = (
    Platform("linux", "amd64", _linux("x86_64")),
    Platform("linux", "arm64", _linux("aarch64")),
    Platform("darwin", "amd64", ("macosx_11_0_x86_64",)),
    Platform("darwin", "arm64", ("macosx_11_0_arm64",)),
)


def packages_of_plugin(lock: dict[str, Pinned]) -> set[str]:
    """Return the packages that the plugin needs: ROOTS, and what they require.

    Raise ClusterError if the lock lacks one of ROOTS.
    """
    if missing := set(ROOTS) - set(lock):
        raise ClusterError(f"requirements.txt lacks {', '.join(sorted(missing))}: run make lock")
    found: set[str] = set()
    pending: list[str] = list(ROOTS)
    while pending:
        name = pending.pop()
        if name in found or name not in lock:  # a marker excludes what the lock does not have
            continue
        found.add(name)
        required = (Requirement(text) for text in metadata.requires(name) or ())
        pending += [
            canonicalize_name(each.name)
            for each in required
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return found


class Plugin:
    """Builds the archives of all platforms from one wheel and the lock file."""

    def __init__(self, project: Path, wheel: Path, progress: Progress) -> None:
        self._wheel = wheel
        self._license = (project / "LICENSE").read_bytes()
        self._lock = locked_packages(project / "requirements.txt")
        self._packages = packages_of_plugin(self._lock)
        self._progress = progress

    def archives(
        self, folder: Path, version: str, platforms: Iterable[Platform] = PLATFORMS
    ) -> dict[Platform, Path]:
        """Write one archive per platform, and return them."""
        pure = self._pure()
        written = {}
        for platform in platforms:
            with heartbeat(self._progress, f"building {PROGRAM} for {platform.name}"):
                program = self._application(pure, platform)
                file = folder / f"{PROGRAM}-{version}-{platform.name}.tar.gz"
                contents = {PROGRAM: program, "LICENSE": self._license}
                tar_gz(file, contents, frozenset({PROGRAM}))
                written[platform] = file
        return written

    def _pure(self) -> dict[str, bytes]:
        contents = self._installed(self._packages - COMPILED, ("--platform=any", "--abi=none"))
        with zipfile.ZipFile(self._wheel) as archive:
            contents |= {name: archive.read(name) for name in archive.namelist()}
        return contents

    def _application(self, pure: dict[str, bytes], platform: Platform) -> bytes:
        contents = {f"site/{name}": data for name, data in pure.items()}
        for python in PYTHONS:
            options = [f"--platform={tag}" for tag in platform.tags]
            options += [f"--python-version={python}", "--implementation=cp"]
            found = self._installed(self._packages & COMPILED, options)
            folder = f"compiled/{_tag(python)}"
            contents |= {f"{folder}/{name}": data for name, data in found.items()}
        digest = hashlib.sha256()
        for name in sorted(contents):
            digest.update(f"{name}\0{len(contents[name])}\0".encode() + contents[name])
        start = (Path(__file__).with_name("bootstrap.py")).read_text()
        start = start.replace("@DIGEST@", digest.hexdigest()[:16])
        start = start.replace("@TAGS@", " ".join(map(_tag, PYTHONS)))
        return SHEBANG + zip_of({**contents, "__main__.py": start.encode()})

    def _installed(self, packages: Iterable[str], options: Iterable[str]) -> dict[str, bytes]:
        """Return the files of packages. pip checks the hashes of the lock file."""
        with tempfile.TemporaryDirectory(prefix="initpipeline-plugin-") as temporary:
            requirements = Path(temporary) / "requirements.txt"
            requirements.write_text("".join(self._lock[each].text for each in sorted(packages)))
            target = Path(temporary) / "site"
            run(
                [
                    *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
                    *("--no-compile", "--only-binary", ":all:", "--require-hashes"),
                    *("--target", str(target), *options),
                    *("--requirement", str(requirements)),
                ]
            )
            files = files_of(target)
        return {name: files[name] for name in files if not _OF_INSTALLATION.search(name)}


def _tag(python: str) -> str:
    return f"cp{python.replace('.', '')}"


def krew_manifest(archives: dict[Platform, Path], version: str, downloads: str) -> str:
    """Return the plugin's manifest for krew. `downloads` is the URL of the archives' folder."""
    return yaml.safe_dump(
        {
            "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
            "kind": "Plugin",
            "metadata": {"name": PROGRAM.removeprefix("kubectl-")},
            "spec": {
                "version": f"v{version}",
                "shortDescription": "Show, explain and re-run InitPipelines",
                "description": (
                    "Shows the steps of InitPipelines and their logs, explains their state, and "
                    "starts, suspends and plans runs.\n"
                ),
                "caveats": f"Needs CPython {PYTHONS[0]} to {PYTHONS[-1]} as python3 on the PATH.\n",
                "platforms": [
                    {
                        "selector": {"matchLabels": {"os": each.os, "arch": each.arch}},
                        "uri": f"{downloads}/{file.name}",
                        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                        "bin": PROGRAM,
                        "files": [
                            {"from": PROGRAM, "to": "."},
                            {"from": "LICENSE", "to": "."},
                        ],
                    }
                    for each, file in archives.items()
                ],
            },
        },
        sort_keys=False,
    )
