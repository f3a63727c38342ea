"""A git repository on disk, the source of Applications."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from initpipeline.api import names


@dataclass(frozen=True)
class Repository:
    """A repository. Each change is a commit."""

    folder: Path

    @property
    def url(self) -> str:
        """URL for the source of an Application."""
        return f"file://{self.folder}"

    def create(self) -> None:
        """Creates the repository with an empty commit."""
        self.folder.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")
        self._commit("Begin")

    def write(
        self,
        directory: str,
        name: str,
        template: dict[str, Any],
        annotations: Mapping[str, str] | None = None,
        **policies: Any,
    ) -> None:
        """Commits a new or changed pipeline as a file in a directory."""
        pipeline = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": {"template": template, **policies},
        }
        self.put(directory, name, yaml.safe_dump(pipeline))

    def put(self, directory: str, name: str, text: str) -> None:
        """Commits a new or changed file in a directory."""
        path = self.folder / directory / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self._commit(f"Write {name}")

    def remove(self, directory: str, name: str) -> None:
        """Commits the removal of a pipeline."""
        (self.folder / directory / f"{name}.yaml").unlink()
        self._commit(f"Remove {name}")

    def _commit(self, message: str) -> None:
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", f"--message={message}")

    def _git(self, *arguments: str) -> None:
        git = shutil.which("git")
        assert git is not None, "Argo CD's repo-server needs git: apt-get install git"
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        subprocess.run([git, *identity, *arguments], cwd=self.folder, check=True)
