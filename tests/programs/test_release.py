"""Two releases of one commit have the same files, and the files work. Run make release-test."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest
import yaml

from initpipeline import __version__
from tests.cluster.progress import Lines
from tests.image.build import Request, built
from tests.image.source import PROJECT, source
from tests.kubectl import program

pytestmark = pytest.mark.long

POD: Final = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "demo"},
    "spec": {
        "initContainers": [{"name": "step", "image": "busybox", "command": ["true"]}],
        "containers": [{"name": "app", "image": "busybox"}],
    },
}
TARGETS: Final = {"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"}


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make release."""
    return subprocess.run(
        ["make", "release", f"OUTPUT={folder}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Builds a release twice. The second build takes no layer of the image from the cache."""
    parent = tmp_path_factory.mktemp("releases")
    for name, arguments in (("first", ()), ("second", ("ARGS=--fresh",))):
        answer = release(parent / name, *arguments)
        assert answer.returncode == 0, answer.stderr
    return parent / "first", parent / "second"


def test_two_releases_of_one_commit_have_the_same_checksums(folders: tuple[Path, Path]) -> None:
    first, second = folders
    assert (first / "SHA256SUMS").read_text() == (second / "SHA256SUMS").read_text()
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=second, check=True)
    listed = {line.split("  ")[1] for line in (first / "SHA256SUMS").read_text().splitlines()}
    assert listed | {"SHA256SUMS"} == {file.name for file in first.iterdir()}
    assert {
        *(f"initpipeline-{__version__}{end}" for end in (".tar.gz", ".cdx.json", ".oci.tar")),
        *(f"kubectl-initpipeline-{__version__}-{target}.tar.gz" for target in TARGETS),
        *(f"initpipeline-{__version__}-py3-none-any.whl", "initpipeline.yaml"),
    } <= listed


def test_image_names_its_commit(folders: tuple[Path, Path]) -> None:
    with tarfile.open(folders[0] / f"initpipeline-{__version__}.oci.tar") as archive:

        def blob(digest: str) -> dict[str, object]:
            file = archive.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert file is not None
            loaded: dict[str, object] = json.load(file)
            return loaded

        index = archive.extractfile("index.json")
        assert index is not None
        manifest: dict[str, dict[str, str]] = blob(json.load(index)["manifests"][0]["digest"])  # type: ignore[assignment]
        config: dict[str, dict[str, dict[str, str]]] = blob(manifest["config"]["digest"])  # type: ignore[assignment]
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == source().revision
    assert labels["org.opencontainers.image.version"] == __version__


def test_kubectl_runs_the_single_file_plugin(folders: tuple[Path, Path], tmp_path: Path) -> None:
    name = f"kubectl-initpipeline-{__version__}-linux-amd64.tar.gz"
    with tarfile.open(folders[0] / name) as archive:
        archive.extractall(tmp_path, filter="data")
    # A Python without the packages of the virtual environment.
    bare = Path(sys.base_prefix) / "bin"
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{bare}:/usr/bin:/bin",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    environment.pop("PYTHONPATH", None)

    def kubectl(*arguments: str) -> str:
        command = [str(program()), "initpipeline", *arguments]
        answer = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return answer.stdout

    assert kubectl("--version") == f"{__version__}\n"
    assert "usage: kubectl initpipeline dashboard" in kubectl("dashboard", "--help")
    pod = tmp_path / "pod.yaml"
    pod.write_text(yaml.safe_dump(POD))
    wrapped = yaml.safe_load(kubectl("wrap", str(pod)))
    assert (wrapped["kind"], wrapped["metadata"]["name"]) == ("InitPipeline", "demo")


def test_release_of_another_version_is_refused(tmp_path: Path) -> None:
    answer = release(tmp_path / "out", "VERSION=v99.0.0")
    assert answer.returncode
    assert f"error: the version of this commit is {__version__}, not 99.0.0" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_image_on_the_python_of_the_default_base_starts(tmp_path: Path) -> None:
    """The default base has Python 3.13, as Debian 13. It selects other wheels of the lock file."""
    with tarfile.open(
        built(Lines(), Request(suite="trixie", file=tmp_path / "image.tar"))
    ) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        layers = json.load(manifest)[0]["Layers"]
        image.extractall(tmp_path / "image", filter="tar")
    root = tmp_path / "root"
    root.mkdir()
    for layer in layers:
        subprocess.run(["tar", "-C", root, "-xf", tmp_path / "image" / layer], check=True)
    inside = ["chroot", "--userspec=65532:65532", str(root), "/opt/initpipeline/bin/python", "-c"]
    answer = subprocess.run(
        [*inside, "import sys, kopf, pydantic, initpipeline; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "(3, 13)\n"
    command = ["chroot", str(root), "/opt/initpipeline/bin/initpipeline", "--version"]
    assert subprocess.check_output(command, text=True) == f"{__version__}\n"
