"""The commands of docs/recipes.md succeed, unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster import build
from tests.cluster.helm import HELM
from tests.cluster.progress import Lines
from tests.e2e import target
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.recipes import Recipe, recipes
from tests.installation import MANIFESTS
from tests.kubectl import Kubectl, program, run

READY_REASON: Final = '{.status.conditions[?(@.type=="Ready")].reason}'


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_recipe_succeeds(recipe: Recipe, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    recipe.write(folder)
    if any("helm " in script for script in recipe.scripts):
        (tmp_path / "bin" / "helm").symlink_to(build.built(HELM, Lines()) / "helm")
    for script in recipe.scripts:
        run(["bash", "-c", f"set -euo pipefail\ncd {folder}\n{script}"], environment=environment)


@pytest.fixture
def ci_recipe(tmp_path: Path) -> Recipe:
    """Return the recipe for CI, whose files are in the test's folder."""
    (recipe,) = (one for one in recipes() if "rerun.sh" in one.files)
    recipe.write(tmp_path)
    return recipe


@pytest.mark.usefixtures("operator")
def test_recipe_for_ci_fails_if_the_run_fails(
    kubectl: Kubectl,
    env: E2EEnv,
    tmp_path: Path,
    environment: dict[str, str],
    ci_recipe: Recipe,
) -> None:
    pipeline = yaml.safe_load(ci_recipe.files["shop.yaml"])
    pipeline["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    pipeline["spec"]["template"]["spec"]["initContainers"][1]["command"] = ["sh", "-c", "exit 3"]
    kubectl("apply", "-f", "-", stdin=pipeline)
    env.wait_reason("shop", "StepFailed")

    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(["sh", str(tmp_path / "rerun.sh"), "shop", "again"], environment=environment)
    assert "fetching" in failed.value.stdout
    assert '"migrate" exited with 3' in failed.value.stderr


@pytest.mark.usefixtures("operator", "ci_recipe")
@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"suspend": True}, "Suspended", "shop is suspended"),
        ({"template": {"spec": {"nodeSelector": {"a b": "c"}}}}, "InvalidTemplate", '"a b"'),
    ],
)
def test_recipe_for_ci_fails_if_the_request_leads_to_no_pod(
    kubectl: Kubectl,
    tmp_path: Path,
    environment: dict[str, str],
    change: dict[str, Any],
    reason: str,
    message: str,
) -> None:
    kubectl("apply", "-f", str(tmp_path / "shop.yaml"))
    kubectl("patch", "ipl", "shop", "--type=merge", "-p", json.dumps({"spec": change}))
    kubectl("wait", "ipl/shop", "--timeout=60s", f"--for=jsonpath={READY_REASON}={reason}")

    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(["sh", str(tmp_path / "rerun.sh"), "shop", "again"], environment=environment)
    assert message in failed.value.stderr


@pytest.mark.usefixtures("operator", "ci_recipe")
def test_recipe_for_ci_succeeds_if_its_token_has_started_an_earlier_run(
    kubectl: Kubectl, env: E2EEnv, tmp_path: Path, environment: dict[str, str]
) -> None:
    kubectl("apply", "-f", str(tmp_path / "shop.yaml"))
    env.wait_ready("shop", run=1)

    for token, number in [("a", 2), ("a", 2), ("b", 3), ("a", 3)]:
        output = run(["sh", str(tmp_path / "rerun.sh"), "shop", token], environment=environment)
        assert output.splitlines()[-3:] == ["fetching", "migrating", "migrated"]
        assert env.pipeline("shop")["status"]["run"]["number"] == number


@pytest.fixture
def environment(cluster: target.Target, kube: Any, tmp_path: Path) -> dict[str, str]:
    """Return a user's environment, with a kubeconfig of the test's namespace and with the tools."""
    kubeconfig = tmp_path / "kubeconfig"
    view = ("config", "view", "--raw", "--minify", "--flatten")
    content = Kubectl(cluster.kubeconfig).json(*view)
    content["contexts"][0]["context"]["namespace"] = kube.namespace
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(json.dumps(content))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(program())
    return {
        "KUBECONFIG": str(kubeconfig),
        "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "INITPIPELINE": str(MANIFESTS.parent),
    }
