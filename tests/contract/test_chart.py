"""The Helm chart: it renders the objects of the kustomizations, and refuses wrong values."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from initpipeline.api.raw import Raw
from tests import installation, libyaml
from tests.cluster.build import KUBERNETES_VERSION, built
from tests.cluster.helm import HELM
from tests.cluster.progress import Lines
from tests.installation import USER_ROLES
from tests.kubectl import program, run

CHART: Final = installation.MANIFESTS / "chart"
NAMESPACE: Final = "initpipeline-system"
COMMON_LABELS: Final = (
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)
"""Labels of all objects. Helm's differ from those of kustomize."""

Values = dict[str, Any]
Objects = dict[tuple[str, str, str], Raw]
"""By kind, namespace and name."""

HA: Final[Values] = {
    "replicas": 3,
    "topologySpread": {"whenUnsatisfiable": "DoNotSchedule"},
    "priorityClassName": "system-cluster-critical",
}
MONITORED: Final[Values] = {
    "metrics": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"metrics": "enabled"}}}],
    },
}
EQUAL: Final = {
    "overlays/cluster": ("overlays/cluster", (), {}),
    "overlays/namespace": ("overlays/namespace", (), {"namespaces": ["team-a"]}),
    "overlays/ha": ("overlays/ha", (), HA),
    "monitoring": ("base", ("monitoring",), MONITORED),
    "sharding": ("base", ("sharding",), {"replicas": 4, "shards": 8}),
}
"""Kustomization, its components, and the values of the chart that render the same objects."""


def template(values: Values, *options: str, namespace: str = NAMESPACE) -> str:
    """Return the output of `helm template`. Raises CalledProcessError for refused values."""
    command = [str(built(HELM, Lines()) / "helm"), "template", "initpipeline", str(CHART)]
    command += ["--namespace", namespace, "--kube-version", KUBERNETES_VERSION, "--values", "-"]
    return run([*command, *options], json.dumps(values))


def by_identity(text: str) -> Objects:
    """Return the objects of a text, without the labels that all of them have."""
    objects: Objects = {}
    for one in libyaml.safe_load_all(text):
        if one is None:
            continue
        metadata = one["metadata"]
        identity = (one["kind"], metadata.get("namespace", ""), metadata["name"])
        assert identity not in objects
        objects[identity] = copy.deepcopy(one)
        labels = objects[identity]["metadata"].pop("labels", {})
        others = {name: value for name, value in labels.items() if name not in COMMON_LABELS}
        objects[identity]["metadata"] |= {"labels": others} if others else {}
    return objects


def with_single_breaks(value: Any, name: str = "") -> Any:
    """Return the value with CEL expressions that have no empty lines.

    Kustomize doubles the line breaks of folded YAML strings. CEL ignores them.
    """
    if isinstance(value, dict):
        return {key: with_single_breaks(child, key) for key, child in value.items()}
    if isinstance(value, list):
        return [with_single_breaks(child) for child in value]
    is_expression = isinstance(value, str) and name.lower().endswith("expression")
    return re.sub(r"\n+", "\n", value) if is_expression else value


def rendered(values: Values, namespace: str = NAMESPACE) -> Objects:
    """Return the objects that the chart installs, by identity."""
    return by_identity(template(values, namespace=namespace))


def kinds(objects: Objects) -> set[str]:
    """Return the kinds of the objects."""
    return {kind for kind, _, _ in objects}


def deployment(objects: Objects) -> Raw:
    """Return the Deployment's Pod template."""
    (found,) = (one for (kind, _, _), one in objects.items() if kind == "Deployment")
    pod: Raw = found["spec"]["template"]
    return pod


@pytest.mark.parametrize(("base", "components", "values"), EQUAL.values(), ids=EQUAL)
def test_chart_renders_the_objects_of_the_kustomization(
    base: str, components: tuple[str, ...], values: Values, tmp_path: Path
) -> None:
    manifests = Path(os.path.relpath(installation.MANIFESTS, tmp_path.resolve()))
    kustomization = {
        "resources": [str(manifests / base)],
        "components": [str(manifests / one) for one in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    expected = by_identity(run([str(program()), "kustomize", str(tmp_path)]))
    # "helm install --create-namespace" creates the namespace.
    del expected["Namespace", "", NAMESPACE]

    found = rendered({**values, "crds": {"enabled": False}})

    assert found.keys() == expected.keys()
    for identity, one in expected.items():
        assert with_single_breaks(found[identity]) == with_single_breaks(one), identity


@pytest.mark.parametrize("keep", [True, False])
def test_crd_is_the_generated_one_and_is_kept_unless_disabled(keep: bool) -> None:
    (file,) = installation.CRDS.glob("*.yaml")
    generated = libyaml.safe_load(file.read_text())
    found = rendered({"crds": {"keep": keep}})
    crd = found["CustomResourceDefinition", "", generated["metadata"]["name"]]
    assert crd["spec"] == generated["spec"]
    assert crd["metadata"].get("annotations", {}) == (
        {"helm.sh/resource-policy": "keep"} if keep else {}
    )


def test_namespaced_chart_has_no_cluster_wide_permissions() -> None:
    found = rendered({"namespaces": ["a", "b"]})
    assert "ClusterRoleBinding" not in kinds(found)
    roles = {name for kind, _, name in found if kind == "ClusterRole"}
    assert roles == set(USER_ROLES), "only the roles of users"
    for kind in ("Role", "RoleBinding"):
        assert {identity for identity in found if identity[0] == kind} == {
            (kind, "a", "initpipeline"),
            (kind, "b", "initpipeline"),
            (kind, NAMESPACE, "initpipeline-leader-election"),
        }
    arguments = deployment(found)["spec"]["containers"][0]["args"]
    assert arguments[-2:] == ["--namespace=a", "--namespace=b"]


def test_chart_for_a_further_operator_has_only_namespaced_objects() -> None:
    """It shares the objects without a namespace with the first operator."""
    off = {"enabled": False}
    shared = ("crds", "admissionPolicies", "aggregatedRoles")
    values: Values = {"namespaces": ["team-b"], **dict.fromkeys(shared, off)}
    found = rendered(values, namespace="initpipeline-team-b")
    assert {namespace for _, namespace, _ in found} == {"team-b", "initpipeline-team-b"}


def test_namespace_of_the_release_is_used_in_all_objects() -> None:
    text = template({"networkPolicy": {"enabled": True}, "metrics": SCRAPED}, namespace="other")
    assert NAMESPACE not in text
    assert "system:serviceaccount:other:initpipeline" in text
    for _, namespace, _ in by_identity(text):
        assert namespace in ("", "other")


def test_values_of_the_pod_are_rendered() -> None:
    digest = "sha256:" + "0" * 64
    spread: Values = {"topologyKey": ""}
    values: Values = {
        "image": {"repository": "registry.example/i", "tag": "1", "digest": digest},
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"limits": {"memory": "1Gi"}},
        "extraArgs": ["--workers=32"],
        "extraEnv": [{"name": "A", "value": "b"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"note": "x"},
        "podLabels": {"team": "y", "app.kubernetes.io/name": "must-not-win"},
    }
    pod = deployment(rendered({**values, "topologySpread": spread}))
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert container["image"] == f"registry.example/i@{digest}"
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert container["args"][-1] == "--workers=32"
    assert container["env"][-1] == {"name": "A", "value": "b"}
    assert spec["nodeSelector"]["disk"] == "ssd"
    for name in ("imagePullSecrets", "tolerations", "affinity", "priorityClassName"):
        assert spec[name] == values[name]
    assert "topologySpreadConstraints" not in spec
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert pod["metadata"]["labels"]["team"] == "y"
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "initpipeline"


SCRAPED: Final[Values] = {
    "enabled": True,
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}


def test_metrics_have_a_service_and_a_monitor_that_select_the_replicas() -> None:
    found = rendered({"metrics": SCRAPED, "podLabels": {"team": "y"}})
    labels = deployment(found)["metadata"]["labels"]
    service = found["Service", NAMESPACE, "initpipeline-metrics"]["spec"]
    assert service["selector"].items() <= labels.items()
    (port,) = service["ports"]
    (container,) = deployment(found)["spec"]["containers"]
    assert port["targetPort"] in [one["name"] for one in container["ports"]]
    assert f"--metrics-address=0.0.0.0:{port['port']}" in container["args"]
    monitor = found["ServiceMonitor", NAMESPACE, "initpipeline"]
    assert monitor["metadata"]["labels"] == {"release": "prometheus"}
    assert monitor["spec"]["endpoints"] == [{"port": port["name"], "interval": "30s"}]


def test_rules_of_the_chart_are_those_of_the_component() -> None:
    found = rendered({"metrics": {"enabled": True, "prometheusRule": {"enabled": True}}})
    file = installation.MANIFESTS / "monitoring" / "alerts.yaml"
    rule = found["PrometheusRule", NAMESPACE, "initpipeline"]
    assert rule["spec"] == libyaml.safe_load(file.read_text())


def test_rules_have_the_replicas_and_the_runbooks_of_the_values() -> None:
    copy = "https://wiki.example/initpipeline"
    rules = {"enabled": True, "runbookUrl": copy}
    found = rendered({"replicas": 3, "metrics": {"enabled": True, "prometheusRule": rules}})
    (group,) = found["PrometheusRule", NAMESPACE, "initpipeline"]["spec"]["groups"]
    by_name = {rule["alert"]: rule for rule in group["rules"]}
    assert by_name["InitPipelineReplicaDown"]["expr"].endswith(" < 3")
    for name, rule in by_name.items():
        assert rule["annotations"]["runbook_url"] == f"{copy}#{name.lower()}"


@pytest.mark.parametrize(
    ("limit", "expression"),
    [
        ("1.5Gi", "1.5 * 1024^3"),
        ("700M", "700 * 1000^2"),
        (2**30, "1.073741824e+09"),
        ("536870912000m", "536870912000 * 1000^-1"),
    ],
)
def test_memory_alert_has_the_limit_of_the_values(limit: str | int, expression: str) -> None:
    values: Values = {"resources": {"limits": {"memory": limit}}}
    rule = rules_of(values)["InitPipelineMemoryNear"]
    assert rule["expr"].endswith(f" > 0.8 * {expression}")


def test_memory_alert_is_left_out_without_a_limit() -> None:
    file = installation.MANIFESTS / "monitoring" / "alerts.yaml"
    (group,) = libyaml.safe_load(file.read_text())["groups"]
    names = {rule["alert"] for rule in group["rules"]}
    found = rules_of({"resources": {"limits": None}})
    assert names - found.keys() == {"InitPipelineMemoryNear"}


def rules_of(values: Values) -> dict[str, Raw]:
    """Return the alerts that the chart installs with these values, by name."""
    metrics: Values = {"enabled": True, "prometheusRule": {"enabled": True}}
    found = rendered({**values, "metrics": metrics})
    (group,) = found["PrometheusRule", NAMESPACE, "initpipeline"]["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_dashboard_of_the_chart_is_that_of_the_component() -> None:
    found = rendered({"metrics": {"dashboard": {"enabled": True}}})
    dashboard = found["ConfigMap", NAMESPACE, "initpipeline-dashboard"]
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    file = installation.MANIFESTS / "monitoring" / "dashboard.json"
    assert dashboard["data"] == {"initpipeline.json": file.read_text()}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"admissionPolicies": {"enabled": False}}, "ValidatingAdmissionPolicy"),
        ({"podDisruptionBudget": {"enabled": False}}, "PodDisruptionBudget"),
        ({"crds": {"enabled": False}}, "CustomResourceDefinition"),
        ({"networkPolicy": {"enabled": True}}, "NetworkPolicy"),
        ({"shards": 2}, "MutatingAdmissionPolicy"),
        ({"metrics": {"enabled": True, "podMonitor": {"enabled": True}}}, "PodMonitor"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_value_adds_or_removes_a_kind(values: Values, kind: str) -> None:
    assert (kind in kinds(rendered(values))) != (kind in kinds(rendered({})))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 3}, "replica"),
        ({"image": {"sha": "x"}}, "sha"),
        ({"image": {"digest": "0123"}}, "digest"),
        ({"shards": 17}, "shards"),
        ({"namespaces": ["Team"]}, "namespaces"),
        ({"namespaces": "team-a"}, "namespaces"),
        ({"podAnnotations": {"n": 1}}, "podAnnotations"),
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "metrics.enabled: true"),
        ({"metrics": {**SCRAPED, "podMonitor": {"enabled": True}}}, "not both"),
        ({"extraArgs": ["--namespace=a"]}, "the values namespaces"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_wrong_value_is_refused_by_name(values: Values, message: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        template(values)
    assert message in refused.value.stderr


def test_schema_is_strict_and_has_each_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = libyaml.safe_load((CHART / "values.yaml").read_text())
    assert set(_names(values, schema)) == set()


def _names(values: Values, schema: Raw, path: str = "") -> Iterator[str]:
    """Yield each name that only one of the two has, and each object that permits others."""
    described = schema.get("properties")
    if described is None:  # the user chooses the names
        return
    if schema["additionalProperties"] is not False:
        yield f"{path} permits other names"
    for name in values.keys() ^ described.keys() - {"global", "claims"}:
        yield f"{path}.{name}"
    for name in values.keys() & described.keys():
        if isinstance(values[name], dict):
            yield from _names(values[name], described[name], f"{path}.{name}")


def test_chart_has_no_finding_of_the_linter() -> None:
    command = [str(built(HELM, Lines()) / "helm"), "lint", "--strict", str(CHART)]
    assert "0 chart(s) failed" in run([*command, "--kube-version", KUBERNETES_VERSION])
