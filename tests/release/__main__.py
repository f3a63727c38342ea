"""Build the files of a release, or check what goes into it: python -m tests.release COMMAND."""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from initpipeline import __version__
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines, Progress
from tests.image.build import Request, built
from tests.image.source import PROJECT, Source, source
from tests.release import licenses
from tests.release.audit import audit
from tests.release.chart import CHART, chart
from tests.release.distributions import distributions
from tests.release.plugin import Plugin, krew_manifest
from tests.release.sbom import bill_of_materials

SUMS: Final = "SHA256SUMS"
LOCK: Final = PROJECT / "requirements.txt"
DOWNLOADS: Final = "https://initpipeline.dev/releases"
"""The default address in the krew manifest. Nothing is published there: set --downloads."""


def main() -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build all files from the present commit")
    build.add_argument("--version", help="refuse to build another version than this one")
    build.add_argument("--output", type=Path, help="folder, which must not exist")
    build.add_argument("--base", help="base image in a registry: NAME:TAG@sha256:...")
    build.add_argument(
        "--downloads", default=DOWNLOADS, help="URL of the releases, in the krew manifest"
    )
    build.add_argument("--fresh", action="store_true", help="build no layer from the cache")
    build.set_defaults(command=_build)
    page = commands.add_parser("licenses", help="write docs/licenses.md")
    page.set_defaults(command=_licenses)
    check = commands.add_parser("audit", help="compare the packages with known vulnerabilities")
    check.set_defaults(command=_audit)
    options = parser.parse_args()
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _build(options: argparse.Namespace) -> int:
    wanted = (options.version or __version__).removeprefix("v")
    if wanted != __version__:
        raise ClusterError(
            f"the version of this commit is {__version__}, not {wanted}: "
            "change operator/initpipeline/__init__.py, and the manifests that its test lists"
        )
    commit = source()
    if commit.changed:
        raise ClusterError("files differ from the commit: commit or stash them (git status)")
    output: Path = options.output or PROJECT / "dist" / f"v{wanted}"
    if output.exists():
        raise ClusterError(f"{output} exists: delete it, or set another folder (OUTPUT=)")
    progress = Lines()
    output.parent.mkdir(parents=True, exist_ok=True)
    # A release is complete or absent.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".release-") as temporary:
        project, files = Path(temporary) / "source", Path(temporary) / "files"
        files.mkdir()
        checkout(project)
        _files(project, files, commit, options, progress)
        (files / SUMS).write_text(checksums(files))
        files.rename(output)
    print((output / SUMS).read_text(), end="")
    progress(f"built version {wanted} of commit {commit.revision}: {output}")
    return 0


def _files(
    project: Path, folder: Path, commit: Source, options: argparse.Namespace, progress: Progress
) -> None:
    progress("building the wheel and the sdist")
    wheel = next(each for each in distributions(project, folder, commit) if each.suffix == ".whl")
    progress("listing the packages")
    listed = bill_of_materials(project, __version__, commit)
    (folder / f"initpipeline-{__version__}.cdx.json").write_text(listed)
    archives = Plugin(project, wheel, progress).archives(folder, __version__)
    downloads = f"{options.downloads}/v{__version__}"
    (folder / "initpipeline.yaml").write_text(krew_manifest(archives, __version__, downloads))
    if (project / CHART).is_dir():
        progress("packaging the chart")
        chart(project, folder, progress)
    image = folder / f"initpipeline-{__version__}.oci.tar"
    request = Request(
        base=options.base, form="oci-archive", fresh=options.fresh, file=image, project=project
    )
    built(progress, request)


def checkout(folder: Path) -> None:
    """Write the files of the present commit, without other files of the working tree."""
    command = ["git", "-c", f"safe.directory={PROJECT}", "-C", str(PROJECT), "archive", "HEAD"]
    answer = subprocess.run(command, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(answer.stdout)) as archive:
        archive.extractall(folder, filter="data")


def checksums(folder: Path) -> str:
    """Return the checksums of all files, in the format of `sha256sum --check`."""
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
    )


def _licenses(_options: argparse.Namespace) -> int:
    licenses.FILE.write_text(licenses.page(licenses.licenses()))
    return 0


def _audit(_options: argparse.Namespace) -> int:
    found = audit(LOCK)
    for line in found:
        print(line)
    print(f"{len(found)} known vulnerabilities in the packages of {LOCK.name}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
