"""docs/install.md: its kustomizations, rendered by kubectl."""

import re
import shutil
from pathlib import Path
from typing import Final

import pytest
import yaml

from initpipeline.api.raw import Raw
from tests.installation import USER_ROLES
from tests.kubectl import program, run

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = re.compile(r"^```yaml\n# (manifests/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Returns a copy of the manifests, with the files of the guide added."""
    for folder in ("crds", "manifests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name, content in BLOCK.findall((ROOT / "docs" / "install.md").read_text()):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    return tmp_path / "manifests"


def rendered(kustomization: Path) -> dict[str, Raw]:
    """Returns what `kubectl apply -k` would apply, by kind, without the roles of users."""
    documents = yaml.safe_load_all(run([str(program()), "kustomize", str(kustomization)]))
    return {
        document["kind"]: document
        for document in documents
        if document["metadata"]["name"] not in USER_ROLES
    }


def operator_container(objects: dict[str, Raw]) -> Raw:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_overlay_for_all_namespaces_names_the_pushed_image(manifests: Path) -> None:
    objects = rendered(manifests / "production")

    assert operator_container(objects)["image"] == "registry.example/initpipeline:0.1.0"
    assert objects.keys() == rendered(manifests / "base").keys()


def test_overlay_for_one_namespace_limits_operator_and_permissions(manifests: Path) -> None:
    text = run([str(program()), "kustomize", str(manifests / "team-a")])
    objects = list(yaml.safe_load_all(text))

    objects = [one for one in objects if one["metadata"]["name"] not in USER_ROLES]
    by_kind = {one["kind"]: one for one in objects}
    container = operator_container(by_kind)
    assert container["image"] == "registry.example/initpipeline:0.1.0"
    assert container["args"][-1] == "--namespace=team-a"
    assert not {"ClusterRole", "ClusterRoleBinding"} & by_kind.keys()
    (role,), (binding,) = (
        [one for one in objects if one["kind"] == kind and one["metadata"]["namespace"] == "team-a"]
        for kind in ("Role", "RoleBinding")
    )
    assert role["rules"] == rendered(manifests / "base")["ClusterRole"]["rules"]
    assert binding["roleRef"]["kind"] == "Role"
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    account = by_kind["ServiceAccount"]["metadata"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])


def test_permissions_in_the_guide_are_those_of_the_cluster_role(manifests: Path) -> None:
    guide = (ROOT / "docs" / "install.md").read_text()
    section = guide.split("\n## Permissions of the operator\n")[1].split("\n## ")[0]
    documented: dict[str, set[str]] = {}
    resource = ""
    for name, verbs in re.findall(r"^\| (?:`([\w/]+)`.*?)?\| ([a-z, ]+) \|", section, re.MULTILINE):
        resource = name or resource
        documented.setdefault(resource, set()).update(verbs.split(", "))

    objects = rendered(manifests / "base")
    granted: dict[str, set[str]] = {}
    for rule in objects["ClusterRole"]["rules"] + objects["Role"]["rules"]:
        for one in rule["resources"]:
            granted.setdefault(one, set()).update(rule["verbs"])
    assert documented == granted
