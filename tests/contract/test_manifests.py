"""manifests/base agrees with the operator: image, permissions. No cluster is needed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.runtime import preflight
from initpipeline.runtime.buckets import BUCKETS
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.keys import Key
from initpipeline.runtime.operator import leases
from initpipeline.runtime.settings import Settings
from tests import installation, libyaml
from tests.image.build import IMAGE
from tests.image.source import PROJECT
from tests.kubectl import program, run

CRDS: Final = PROJECT / "crds"
APPLIED_SUFFIXES: Final = {".yaml", ".yml", ".json"}
"""`kubectl apply -f DIRECTORY` applies files with these suffixes only."""

POLICY_KINDS: Final = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")

Permission = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


@pytest.fixture(scope="module")
def rendered() -> dict[str, Raw]:
    """Return the objects that `kubectl apply -k manifests/base` applies, by kind, without the
    admission policies and the roles of users."""
    objects = [
        found
        for found in installation.rendered()
        if found["kind"] not in POLICY_KINDS
        and found["metadata"]["name"] not in installation.USER_ROLES
    ]
    by_kind = {found["kind"]: found for found in objects}
    assert len(by_kind) == len(objects), "two objects of one kind"
    return by_kind


@pytest.fixture(scope="module")
def policies() -> dict[str, Raw]:
    """Return the admission policies of `manifests/base` by name. Each has a binding."""
    objects = [found for found in installation.rendered() if found["kind"] in POLICY_KINDS]
    found, bindings = ([one for one in objects if one["kind"] == kind] for kind in POLICY_KINDS)
    bound = [binding["spec"] for binding in bindings]
    assert bound == [
        {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
        for policy in found
    ]
    return {policy["metadata"]["name"]: policy for policy in found}


def test_base_has_all_kinds(rendered: dict[str, Raw]) -> None:
    assert set(rendered) == {
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Deployment",
        "PodDisruptionBudget",
    }


def test_deployment_runs_the_image_of_this_version(rendered: dict[str, Raw]) -> None:
    (container,) = rendered["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE


@pytest.mark.parametrize("role", ["ClusterRole", "Role"])
def test_role_is_bound_to_the_account_of_the_deployment(
    rendered: dict[str, Raw], role: str
) -> None:
    deployment, account = rendered["Deployment"], rendered["ServiceAccount"]["metadata"]
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    assert deployment["metadata"]["namespace"] == account["namespace"]
    binding = rendered[f"{role}Binding"]
    assert binding["roleRef"]["kind"] == role
    assert binding["roleRef"]["name"] == rendered[role]["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", account["name"])
    assert subject["namespace"] == account["namespace"]


def test_cluster_scoped_objects_have_no_namespace(rendered: dict[str, Raw]) -> None:
    """Kustomize's namespace field would also set it on cluster-scoped kinds it does not know."""
    namespaced = {kind for kind, found in rendered.items() if "namespace" in found["metadata"]}
    installed = {"ServiceAccount", "Deployment", "PodDisruptionBudget", "Role", "RoleBinding"}
    assert namespaced == installed


def test_budget_and_spread_select_the_replicas(rendered: dict[str, Raw]) -> None:
    deployment = rendered["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    budget = rendered["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert deployment["selector"]["matchLabels"] == labels
    assert budget == spread["labelSelector"]["matchLabels"] == labels


def test_policy_of_specs_matches_pipelines_but_not_their_status(
    policies: dict[str, Raw],
) -> None:
    (rule,) = policies["initpipelines.initpipeline.dev"]["spec"]["matchConstraints"][
        "resourceRules"
    ]
    assert (rule["apiGroups"], rule["resources"]) == ([names.GROUP], [names.PLURAL])


def test_policy_of_sizes_matches_no_write_of_the_operator(
    policies: dict[str, Raw], rendered: dict[str, Raw]
) -> None:
    policy = policies["sizes.initpipelines.initpipeline.dev"]
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["apiGroups"], rule["resources"]) == (
        [names.GROUP],
        [names.PLURAL, f"{names.PLURAL}/status"],
    )
    account = rendered["ServiceAccount"]["metadata"]
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    conditions = [one["expression"] for one in policy["spec"]["matchConditions"]]
    assert f"request.userInfo.username != '{user}'" in conditions


@pytest.mark.parametrize("name", ["requester", "guard"])
def test_policy_names_the_account_of_the_deployment(
    policies: dict[str, Raw], rendered: dict[str, Raw], name: str
) -> None:
    spec = policies[f"{name}.initpipelines.initpipeline.dev"]["spec"]
    account = rendered["ServiceAccount"]["metadata"]
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    conditions = [one["expression"] for one in spec["matchConditions"]]
    assert any(f"request.userInfo.username {is_} '{user}'" in conditions for is_ in ("==", "!="))


def test_guard_protects_the_namespace_of_the_deployment(
    policies: dict[str, Raw], rendered: dict[str, Raw]
) -> None:
    variables = policies["guard.initpipelines.initpipeline.dev"]["spec"]["variables"]
    expressions = {one["name"]: one["expression"] for one in variables}
    namespace = rendered["Deployment"]["metadata"]["namespace"]
    assert expressions["protected"] == f"['kube-system', '{namespace}']"


def test_roles_of_users_write_no_status() -> None:
    roles = {
        found["metadata"]["name"]: found
        for found in installation.rendered()
        if found["metadata"]["name"] in installation.USER_ROLES
    }
    assert set(roles) == set(installation.USER_ROLES)
    aggregated = {
        name: {
            label.rpartition("-")[2]
            for label in role["metadata"]["labels"]
            if "/aggregate-to-" in label
        }
        for name, role in roles.items()
    }
    assert aggregated == {
        "initpipeline-view": {"view", "edit", "admin"},
        "initpipeline-edit": {"edit", "admin"},
    }
    resources = {resource for role in roles.values() for _, resource, _ in _permissions(role)}
    assert resources == {names.PLURAL}


async def test_role_permits_exactly_the_requests_of_the_operator(
    rendered: dict[str, Raw],
) -> None:
    client = _Recorder()
    role = rendered["Role"]
    lease = Key(role["metadata"]["namespace"], Settings().lease_name)
    await preflight.check(client, (), lease)
    permitted = _permissions(rendered["ClusterRole"]) | _permissions(role)
    assert permitted == client.asked


def test_role_of_the_lease_is_limited_to_its_name_and_namespace(rendered: dict[str, Raw]) -> None:
    role = rendered["Role"]
    assert role["metadata"]["namespace"] == rendered["Deployment"]["metadata"]["namespace"]
    named, unnamed = role["rules"]
    assert named["resourceNames"] == [Settings().lease_name]
    assert unnamed["verbs"] == ["create"]


def test_role_has_no_wildcards(rendered: dict[str, Raw]) -> None:
    for permission in _permissions(rendered["ClusterRole"]) | _permissions(rendered["Role"]):
        assert not any("*" in part for part in permission), permission


def test_component_for_shards_permits_all_their_leases(tmp_path: Path) -> None:
    base, sharding = (
        os.path.relpath(PROJECT / "manifests" / name, tmp_path.resolve())
        for name in ("base", "sharding")
    )
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": [base], "components": [sharding]})
    )
    objects = list(libyaml.safe_load_all(run([str(program()), "kustomize", str(tmp_path)])))
    by_kind = {found["kind"]: found for found in objects}
    (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    (argument,) = (one for one in container["args"] if one.startswith("--shards="))
    assert 1 < Settings(shards=argument.removeprefix("--shards=")).shards <= len(BUCKETS)
    role = by_kind["Role"]
    named = [lease.name for lease in leases(Settings(shards=len(BUCKETS)))]
    assert role["rules"][0]["resourceNames"] == named
    policy = str(by_kind["MutatingAdmissionPolicy"]["spec"])
    assert names.BUCKET_LABEL in policy
    assert names.BUCKET_LABEL.replace("/", "~1") in policy


def test_crd_directory_can_be_applied_without_kustomize() -> None:
    files = [file for file in CRDS.iterdir() if file.suffix in APPLIED_SUFFIXES]
    kinds = {found["kind"] for file in files for found in libyaml.safe_load_all(file.read_text())}
    assert kinds == {"CustomResourceDefinition"}


class _Recorder(ApiClient):
    """An API server that permits everything, and records the permissions that were checked."""

    def __init__(self) -> None:
        self.asked: set[Permission] = set()

    async def request(
        self,
        method: str,  # noqa: ARG002 - the request's signature
        path: str,  # noqa: ARG002
        body: Mapping[str, Any] | None = None,
        *_: object,
        **__: object,
    ) -> dict[str, Any]:
        if body:
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
            self.asked.add((asked["group"], resource, asked["verb"]))
        return {"resources": [{"name": names.PLURAL}], "status": {"allowed": True}}


def _permissions(role: Raw) -> set[Permission]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
