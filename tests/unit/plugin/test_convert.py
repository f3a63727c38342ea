"""Conversion of a file: its workloads are wrapped, other objects are printed unchanged."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from initpipeline.plugin import main
from initpipeline.plugin.manifests import ManifestError
from initpipeline.plugin.wrap.convert import Conversion, convert
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import WrapOptions

SHOP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  template:
    metadata: {labels: {app: shop, tier: web}}
    spec: {initContainers: [{name: step}], containers: [{name: app}]}
"""
DAEMON = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: plain}
spec: {template: {spec: {containers: [{name: app}]}}}
"""
SERVICE = """\
# The way in.
apiVersion: v1
kind: Service
metadata: {name: shop}   # as the Deployment
spec: {selector: {app: shop}}
"""
STATEFUL = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: data}
spec:
  serviceName: db
  template: {spec: {initContainers: [{name: step}], containers: [{name: app}]}}
  volumeClaimTemplates: [{metadata: {name: disk}, spec: {}}]
"""

JOB = """\
apiVersion: batch/v1
kind: Job
metadata: {name: j, labels: {a: b}, annotations: {c: d}, finalizers: [x/y], ownerReferences: [{}]}
spec:
  suspend: true
  parallelism: 1
  completions: 1
  activeDeadlineSeconds: 5
  ttlSecondsAfterFinished: 5
  template:
    metadata: {labels: {job-name: j}}
    spec: {restartPolicy: Never, initContainers: [{name: step}], containers: [{name: app}]}
status: {conditions: [{type: Complete, status: "True"}]}
"""
CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: c, uid: "1"}
spec:
  schedule: "@daily"
  suspend: true
  jobTemplate:
    metadata: {labels: {a: b}}
    spec: {template: {spec: {initContainers: [{name: step}], containers: [{name: app}]}}}
"""


def converted(*documents: str, options: WrapOptions | None = None) -> Conversion:
    return convert("---\n".join(documents), options or WrapOptions())


def kinds(conversion: Conversion) -> list[str]:
    return [document["kind"] for document in yaml.safe_load_all(conversion.text)]


def titles(conversion: Conversion) -> str:
    return "\n".join(remark.title for remark in conversion.remarks)


def test_other_objects_are_printed_unchanged_in_their_paths() -> None:
    conversion = converted(SERVICE, SHOP, SERVICE)
    assert kinds(conversion) == ["Service", "InitPipeline", "Service"]
    first, _, last = conversion.text.split("---\n")
    assert first == last == SERVICE


def test_claims_precede_their_pipeline_in_its_namespace() -> None:
    claim, pipeline = yaml.safe_load_all(converted(STATEFUL).text)
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["metadata"] == {"name": "disk-db-0", "namespace": "data"}
    assert pipeline["kind"] == "InitPipeline"


def test_workload_that_cannot_be_wrapped_is_left_unchanged_beside_one_that_can() -> None:
    conversion = converted(DAEMON, SHOP)
    assert kinds(conversion) == ["DaemonSet", "InitPipeline"]
    assert 'left unchanged: DaemonSet "plain" has no init containers' in titles(conversion)


def test_remark_names_each_wrapped_workload() -> None:
    assert 'Deployment "shop" becomes InitPipeline "shop"' in titles(converted(SHOP))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("scaleTargetRef: {kind: Deployment, name: shop}", True, id="this workload"),
        pytest.param(
            "scaleTargetRef: {kind: Deployment, name: cart}", False, id="another workload"
        ),
        pytest.param("targetRef: {kind: Deployment, name: shop}", True, id="vertical"),
    ],
)
def test_remark_names_the_autoscaler_of_the_workload(spec: str, expected: bool) -> None:
    autoscaler = f"kind: HorizontalPodAutoscaler\nmetadata: {{name: h}}\nspec: {{{spec}}}\n"
    assert ("has lost its target" in titles(converted(SHOP, autoscaler))) is expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("maxUnavailable: 1, selector: {matchLabels: {app: shop}}", True, id="max"),
        pytest.param('minAvailable: "50%", selector: {matchLabels: {app: shop}}', True, id="part"),
        pytest.param("minAvailable: 1, selector: {matchLabels: {app: shop}}", False, id="number"),
        pytest.param("maxUnavailable: 1, selector: {matchLabels: {app: x}}", False, id="other"),
    ],
)
def test_remark_names_disruption_budget_that_needs_a_scale_subresource(
    spec: str, expected: bool
) -> None:
    budget = f"kind: PodDisruptionBudget\nmetadata: {{name: b}}\nspec: {{{spec}}}\n"
    assert ("blocks every eviction" in titles(converted(SHOP, budget))) is expected


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param(
            "kind: ScaledObject\nspec: {scaleTargetRef: {name: shop}}",
            "has lost its target",
            id="KEDA, whose default is a Deployment",
        ),
        pytest.param(
            "kind: Rollout\nspec: {workloadRef: {kind: Deployment, name: shop}}",
            "has lost its target",
            id="Argo Rollouts",
        ),
        pytest.param(
            "kind: HorizontalPodAutoscaler\n"
            "spec: {scaleTargetRef: {kind: Deployment, name: shop}}\nnamespace: other",
            None,
            id="another namespace",
        ),
        pytest.param(
            "kind: PodDisruptionBudget\nspec: {maxUnavailable: 1, selector: {}}",
            "blocks every eviction",
            id="selector of everything",
        ),
        pytest.param(
            "kind: PodDisruptionBudget\nspec: {maxUnavailable: 1, selector: {matchExpressions: "
            "[{key: app, operator: In, values: [shop]}]}}",
            "blocks every eviction",
            id="selector by expression",
        ),
        pytest.param(
            "kind: Service\nspec: {selector: {app: shop, pod-template-hash: abc}}",
            "by pod-template-hash, which the InitPipeline's Pod does not have",
            id="Service by a controller's label",
        ),
        pytest.param(
            "kind: NetworkPolicy\nspec: {podSelector: {matchLabels: {job-name: shop}}}",
            "by job-name, which the InitPipeline's Pod does not have",
            id="NetworkPolicy by a controller's label",
        ),
        pytest.param("kind: Service\nspec: {selector: {app: shop}}", None, id="own label"),
        pytest.param("kind: Odd\nspec: [1]", None, id="spec is a list"),
        pytest.param(
            "kind: Odd\nspec: {selector: a, scaleTargetRef: [], podSelector: {matchLabels: 1}}",
            None,
            id="invalid selectors",
        ),
    ],
)
def test_remark_names_object_that_refers_to_the_workload(
    manifest: str, expected: str | None
) -> None:
    where = "namespace: other, " if "namespace: other" in manifest else ""
    manifest = manifest.replace("\nnamespace: other", "")
    remarks = titles(converted(SHOP, f"{manifest}\nmetadata: {{{where}name: x}}\n"))
    others = [line for line in remarks.splitlines() if not line.startswith("Deployment")]
    assert len(others) == (1 if expected else 0)
    assert all(expected and expected in line for line in others)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        pytest.param([SERVICE], "there is only Service; wrap supports", id="other objects"),
        pytest.param([""], "there is no object", id="empty file"),
    ],
)
def test_file_without_workloads_is_an_error_that_names_its_kinds(
    documents: list[str], message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        converted(*documents)


def test_error_has_each_reason_if_no_workload_can_be_wrapped() -> None:
    with pytest.raises(CannotWrapError) as refused:
        converted(DAEMON, SERVICE, DAEMON)
    assert str(refused.value).count("has no init containers") == 2


def test_name_option_is_refused_for_several_workloads() -> None:
    with pytest.raises(CannotWrapError, match="there are 2"):
        converted(SHOP, DAEMON, options=WrapOptions(name="b"))


def test_output_of_wrap_is_left_unchanged() -> None:
    output = converted(SHOP).text
    assert kinds(converted(output, STATEFUL))[0] == "InitPipeline"


ODD_VALUES: tuple[Any, ...] = (None, 5, "x", [], ["x"], [None], {}, {"a": None}, True)


def outcome(*documents: Any) -> str:
    """Returns the output of wrap, or the message of its error."""
    try:
        return convert("\n".join(json.dumps(one) for one in documents), WrapOptions()).text
    except (CannotWrapError, ManifestError) as error:
        return str(error)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the paths to the value and all values in it."""
    yield path
    items = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else items:
        yield from paths(inner, (*path, key))


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    made = copy.copy(document)
    made[path[0]] = with_value(document[path[0]], path[1:], value)
    return made


@pytest.mark.parametrize("text", [SHOP, DAEMON, STATEFUL, JOB, CRON_JOB])
def test_workload_with_any_value_in_any_field_is_wrapped_or_refused(text: str) -> None:
    document = yaml.safe_load(text)
    for path in paths(document):
        assert all(outcome(with_value(document, path, value)) for value in ODD_VALUES), path


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy", "Scaler"])
def test_other_object_with_any_value_in_any_field_is_kept(kind: str) -> None:
    selector = {"matchLabels": {"app": "shop"}, "matchExpressions": [{"key": "a", "values": []}]}
    spec = {"selector": selector, "podSelector": selector, "scaleTargetRef": {"kind": "Pod"}}
    other = {"kind": kind, "metadata": {"name": "x"}, "spec": spec}
    shop = yaml.safe_load(SHOP)
    for path in paths(other):
        for value in ODD_VALUES:
            assert outcome(shop, with_value(other, path, value)), path


def test_deeply_nested_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    file = tmp_path / "deep.json"
    file.write_text('{"kind": "Pod", "a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert main.main(["wrap", str(file)]) == 1
