"""manifests/examples as they are, but for what a test cluster cannot have: the internet."""

import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.installation import MANIFESTS

FOLDER: Final = MANIFESTS / "examples"
BUSYBOX: Final = "busybox:1.36"
MACHINES_OWN: Final = ("/usr", "/lib", "/lib64")
"""Where a program of the machine, and what it needs, is found."""

Object = dict[str, Any]


def names() -> list[str]:
    """Of all examples."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> list[Object]:
    """The objects of an example."""
    return [one for one in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()) if one]


def pipeline_of(objects: list[Object]) -> Object:
    """The one InitPipeline among them."""
    (pipeline,) = (one for one in objects if one["kind"] == "InitPipeline")
    return pipeline


def without_pods(objects: list[Object]) -> list[Object]:
    """Without those that stand for what is somewhere else."""
    return [one for one in objects if one["kind"] != "Pod"]


def with_the_machines_git(objects: list[Object], repository: Path) -> list[Object]:
    """The same, with the git of this machine, on whose disk the node is, in place of its image's,
    and this repository in place of one on the internet."""
    spec = pipeline_of(objects)["spec"]["template"]["spec"]
    (clone,) = (step for step in spec["initContainers"] if step["name"] == "clone")
    clone["image"] = BUSYBOX
    (address,) = (entry for entry in clone["env"] if entry["name"] == "REPOSITORY")
    address["value"] = f"file://{repository}"
    # It belongs to whoever runs the tests.
    clone["env"] += [{"name": "GIT_CONFIG_COUNT", "value": "1"}]
    clone["env"] += [{"name": "GIT_CONFIG_KEY_0", "value": "safe.directory"}]
    clone["env"] += [{"name": "GIT_CONFIG_VALUE_0", "value": "*"}]
    for number, path in enumerate((*MACHINES_OWN, str(repository))):
        spec["volumes"].append({"name": f"machine-{number}", "hostPath": {"path": path}})
        clone["volumeMounts"].append(
            {"name": f"machine-{number}", "mountPath": path, "readOnly": True}
        )
    return objects


def make_repository(folder: Path) -> None:
    """A repository whose build.sh makes a page."""
    (folder / "build.sh").write_text("mkdir -p public && echo hello >public/index.html\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        [*identity, "commit", "--quiet", "--no-gpg-sign", "-m", "First page"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
