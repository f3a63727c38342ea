"""Load manifests/examples, and replace what needs the internet."""

import subprocess
from pathlib import Path
from typing import Final

import yaml

from initpipeline.api.raw import Raw
from tests.installation import MANIFESTS

FOLDER: Final = MANIFESTS / "examples"
BUSYBOX: Final = "busybox:1.36"
MACHINE_PATHS: Final = ("/usr", "/lib", "/lib64")
"""The directories of the machine's programs and libraries."""


def names() -> list[str]:
    """Return the names of all examples."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> list[Raw]:
    """Return the objects of an example."""
    return [one for one in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()) if one]


def pipeline_of(objects: list[Raw]) -> Raw:
    """Return the InitPipeline among the objects."""
    (pipeline,) = (one for one in objects if one["kind"] == "InitPipeline")
    return pipeline


def without_pods(objects: list[Raw]) -> list[Raw]:
    """Return the objects without the Pods, which represent external services."""
    return [one for one in objects if one["kind"] != "Pod"]


def with_the_machines_git(objects: list[Raw], repository: Path) -> list[Raw]:
    """Return the objects with git from this machine and with a local repository.

    The node has this machine's disk. The example's image and repository need the internet.
    """
    spec = pipeline_of(objects)["spec"]["template"]["spec"]
    (clone,) = (step for step in spec["initContainers"] if step["name"] == "clone")
    clone["image"] = BUSYBOX
    (address,) = (entry for entry in clone["env"] if entry["name"] == "REPOSITORY")
    address["value"] = f"file://{repository}"
    # The user who runs the tests owns the repository, not the user of the container.
    clone["env"] += [{"name": "GIT_CONFIG_COUNT", "value": "1"}]
    clone["env"] += [{"name": "GIT_CONFIG_KEY_0", "value": "safe.directory"}]
    clone["env"] += [{"name": "GIT_CONFIG_VALUE_0", "value": "*"}]
    for number, path in enumerate((*MACHINE_PATHS, str(repository))):
        spec["volumes"].append({"name": f"machine-{number}", "hostPath": {"path": path}})
        clone["volumeMounts"].append(
            {"name": f"machine-{number}", "mountPath": path, "readOnly": True}
        )
    return objects


def make_repository(folder: Path) -> None:
    """Create a repository with a build.sh that creates a web page."""
    (folder / "build.sh").write_text("mkdir -p public && echo hello >public/index.html\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        [*identity, "commit", "--quiet", "--no-gpg-sign", "-m", "First page"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
