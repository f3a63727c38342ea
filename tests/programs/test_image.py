"""The image is the same file if it is built again. make release-test builds all layers again."""

import hashlib
import shutil
import uuid
from pathlib import Path

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines
from tests.image.build import Request, built
from tests.image.source import PROJECT


def copied(folder: Path) -> Path:
    """Return a copy of the files that the Dockerfile reads. No build has used it before.

    A comment in pyproject.toml changes nothing in the wheel, but the cache does not know that.
    """
    folder.mkdir()
    names = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE")
    for name in (*names, "requirements.txt", "requirements-dev.txt"):
        shutil.copy(PROJECT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        PROJECT / "operator",
        folder / "operator",
        ignore=ignored,
        copy_function=shutil.copyfile,  # with the present time
    )
    with (folder / "pyproject.toml").open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")
    return folder


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_image_whose_operator_is_installed_again_is_the_same_file(tmp_path: Path) -> None:
    first = built(Lines(), Request(file=tmp_path / "first.tar"))
    project = copied(tmp_path / "project")
    again = built(Lines(), Request(file=tmp_path / "again.tar", project=project))
    assert digest(first) == digest(again)


@pytest.mark.parametrize("base", ["python:3.13-slim-bookworm", "python@sha256:1234"])
def test_base_in_a_registry_without_digest_is_refused(base: str) -> None:
    with pytest.raises(ClusterError, match=r"needs a digest: NAME:TAG@sha256:"):
        built(request=Request(base=base))
