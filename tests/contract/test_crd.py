"""The generated CRD on a real API server: what it accepts, refuses, stores, prints and explains."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

import pytest

from crds import meanings
from crds.generate import CRD_FILE, core_definitions, rendered
from initpipeline.api import names
from initpipeline.api.crd import custom_resource_definition
from initpipeline.api.podtemplate import CORE, MACHINERY, Definitions, Schema
from tests import libyaml
from tests.cluster.cluster import Cluster
from tests.contract.admission_client import AdmissionClient, Template, minimal_template, pipeline_of
from tests.installation import CRDS
from tests.kubectl import Kubectl

pytestmark = pytest.mark.newest

TEMPLATES: Final[dict[str, Template]] = libyaml.safe_load(
    Path(__file__).with_name("pod_templates.yaml").read_text()
)
each_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())

NOT_VALIDATED: Final = "clusterTrustBundle.path"
"""By default the API server drops this volume source from a Pod before validation."""

WITHOUT_STEPS: Final = ".spec.initContainers left out"
"""A variation that a Pod accepts. A pipeline needs init containers."""

LEAVES: Final = {
    f"{MACHINERY}api.resource.Quantity": 0.5,
    f"{MACHINERY}util.intstr.IntOrString": "http",
    f"{MACHINERY}apis.meta.v1.FieldsV1": {"f:spec": {}},
    f"{MACHINERY}apis.meta.v1.Time": "2026-01-01T00:00:00Z",
}
"""Example values of types whose published schema does not define the format."""


class TestFile:
    """crds/initpipelines.yaml."""

    def test_file_equals_the_generated_crd(self, control_plane: Cluster) -> None:
        generated = rendered(
            custom_resource_definition(core_definitions(control_plane), meanings.of_values())
        )
        assert CRD_FILE.read_text() == generated, "run: make generate"

    def test_file_is_smaller_than_200_kb(self) -> None:
        assert CRD_FILE.stat().st_size < 200_000

    @pytest.mark.parametrize(
        "options", [(), ("--server-side", "--force-conflicts")], ids=["client-side", "server-side"]
    )
    def test_file_is_accepted_by_kubectl_apply(
        self, kubectl: Kubectl, options: tuple[str, ...]
    ) -> None:
        assert f"{names.PLURAL}.{names.GROUP}" in kubectl("apply", *options, "-f", str(CRDS))

    def test_yaml_aliases_are_read_by_kustomize(self, kubectl: Kubectl, tmp_path: Path) -> None:
        shutil.copy(CRD_FILE, tmp_path)
        (tmp_path / "kustomization.yaml").write_text(f"resources: [{CRD_FILE.name}]")
        built = libyaml.safe_load(kubectl("kustomize", str(tmp_path)))
        assert built == libyaml.safe_load(CRD_FILE.read_text())


class TestExplain:
    """`kubectl explain`."""

    @pytest.mark.parametrize(
        ("path", "description"),
        [
            ("", "InitPipeline describes a Pod whose init containers must run before each start"),
            ("spec.template.metadata.labels", "Map of string keys and values"),
            ("spec.template.spec.initContainers", "List of initialization containers"),
            ("spec.template.spec.initContainers.restartPolicyRules.exitCodes.values", "exit codes"),
            ("spec.template.spec.containers.resources.limits", "maximum amount of compute"),
            ("spec.template.spec.containers.livenessProbe.httpGet.port", "Name or number"),
            ("spec.template.spec.volumes.projected.sources.secret.items.mode", "Mode bits"),
            ("status.initContainerStatuses.lastState.terminated.exitCode", "Exit status"),
            ("status.history.failedStep.message", "Termination message"),
        ],
        ids=lambda value: value.rpartition(".")[2],
    )
    def test_explain_describes_fields_at_each_level(
        self, kubectl: Kubectl, path: str, description: str
    ) -> None:
        explained = kubectl("explain", ".".join(filter(None, [names.SINGULAR, path])))
        assert description in " ".join(explained.split())

    def test_every_field_has_a_description(self) -> None:
        crd = libyaml.safe_load(CRD_FILE.read_text())
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        without = [path for path, field in fields(schema) if "description" not in field]
        assert without == [".metadata"], "the API server describes metadata itself"


class TestRefused:
    """Objects that are not in the form of a Pod template. admission.yaml has more."""

    @pytest.mark.parametrize(
        "quantity",
        ["", "half", "1x", "1 Gi", "1,5", True, [], ["1"], {}, {"cpu": 1}],
        ids=repr,
    )
    def test_invalid_quantity_is_refused(
        self, admission_client: AdmissionClient, quantity: object
    ) -> None:
        template = minimal_template()
        template["spec"]["containers"][0]["resources"] = {"limits": {"cpu": quantity}}
        path = "spec.template.spec.containers[0].resources.limits.cpu"
        refusal = admission_client.pipeline_refusal(pipeline_of(template))
        assert refusal is not None
        assert path in refusal.message
        assert admission_client.pod_refusal(template)

    @pytest.mark.parametrize("spec", [None, {}, {"template": None}], ids=repr)
    def test_pipeline_without_template_is_refused(self, kubectl: Kubectl, spec: object) -> None:
        with pytest.raises(CalledProcessError) as refused:
            kubectl("apply", "-f", "-", stdin=pipeline_of(None) | {"spec": spec})
        assert "Required value" in refused.value.stderr


class TestStoredTemplate:
    """A template that the API server accepts is stored unchanged: nothing is pruned or added."""

    @each_template
    def test_valid_template_is_stored_unchanged(
        self, admission_client: AdmissionClient, template: Template
    ) -> None:
        assert admission_client.pod_refusal(template) is None
        assert admission_client.store_template(template) == template

    def test_template_with_every_field_is_stored_unchanged(
        self, control_plane: Cluster, admission_client: AdmissionClient
    ) -> None:
        definitions = core_definitions(control_plane)
        template = example(definitions[f"{CORE}PodTemplateSpec"], definitions)
        del template["spec"]["ephemeralContainers"]
        del template["metadata"]["managedFields"]
        for volume in template["spec"]["volumes"]:
            del volume["ephemeral"]["volumeClaimTemplate"]["metadata"]["managedFields"]
        assert admission_client.store_template(template) == template

    def test_null_in_a_list_is_stored(self, admission_client: AdmissionClient) -> None:
        template = minimal_template()
        template["spec"]["containers"][0]["args"] = ["serve", None]
        assert admission_client.store_template(template) == template

    def test_null_in_an_object_is_dropped(self, admission_client: AdmissionClient) -> None:
        template = minimal_template()
        template["metadata"] = {"creationTimestamp": None, "labels": {"tier": None}}
        template["spec"] |= {"nodeSelector": None, "volumes": None}
        assert admission_client.store_template(template) == minimal_template() | {
            "metadata": {"labels": {}}
        }

    @each_template
    def test_change_that_a_pod_accepts_is_accepted(
        self, admission_client: AdmissionClient, template: Template
    ) -> None:
        """Each variation leaves out a field, repeats or nulls an item, or empties a string."""

        def refused(case: tuple[str, Template]) -> str | None:
            refusal = admission_client.pipeline_refusal(pipeline_of(case[1]))
            pod_refusal = refusal and admission_client.pod_refusal(case[1])
            return f"{case[0]}: {refusal.message}" if refusal and not pod_refusal else None

        cases = [
            case
            for case in variations(template)
            if NOT_VALIDATED not in case[0] and case[0] != WITHOUT_STEPS
        ]
        with ThreadPoolExecutor() as executor:
            assert [message for message in executor.map(refused, cases) if message] == []


class TestStatus:
    """The status subresource."""

    def test_unknown_fields_of_init_container_statuses_are_kept(
        self, kubectl: Kubectl, namespace: str
    ) -> None:
        statuses = [
            {
                "name": "step",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z", "new": [1]}},
                "lastState": {"frozen": {"since": "2026-01-01T00:00:00Z"}},
                "resources": {"limits": {"cpu": "1"}, "new": {"deep": {"er": 1}}},
                "volumeMounts": [{"name": "a", "mountPath": "/a", "new": 1}] * 2,
                "stopSignal": "SIGNEW",
                "new": {"a": True},
            },
            {"name": "next", "state": {"waiting": {}}},
        ]
        kubectl = kubectl.within(namespace)
        kubectl("create", "-f", "-", stdin=pipeline_of(minimal_template()))
        patch = json.dumps({"status": {"initContainerStatuses": statuses}})
        kubectl("patch", "ipl", "shop", "--subresource=status", "--type=merge", "-p", patch)
        stored = json.loads(kubectl("get", "ipl", "shop", "-o", "json"))
        assert stored["status"]["initContainerStatuses"] == statuses

    def test_status_of_a_newer_version_is_stored_unchanged(
        self, kubectl: Kubectl, namespace: str
    ) -> None:
        """Unknown fields in each object, unknown values, and conditions of other controllers."""
        new: Final = {"aFieldOfTheFuture": {"deep": [1, {"er": True}]}}
        ended = {
            "number": 1,
            "trigger": "NodeOnFire",
            "startTime": "2026-01-01T00:00:00Z",
            "completionTime": "2026-01-01T00:00:09Z",
            "result": "Burnt",
            "reason": "TooHot",
            "cause": {"container": "app", **new},
            "exceeded": {"limit": "maxDegrees", "step": "cool", "value": 451, **new},
            **new,
        }
        status = {
            "observedGeneration": 1,
            "conditions": [
                {
                    "type": "example.com/Audited",
                    "status": "True",
                    "reason": "Audited",
                    "message": "x" * 32768,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                    **new,
                }
            ],
            "run": {
                **ended,
                "completedInitContainers": [{"name": "cool", "containerID": "c", **new}],
                "restartBaselines": [{"name": "app", "restartCount": 1, **new}],
                "runningStep": {
                    "name": "cool",
                    "containerID": "d",
                    "firstSeenTime": "2026-01-01T00:00:00Z",
                    **new,
                },
            },
            "history": [{**ended, "failedStep": {"name": "cool", "restartCount": 0, **new}}],
            "effectiveResources": {"requests": {"cpu": "1"}, **new},
            **new,
        }
        kubectl = kubectl.within(namespace)
        kubectl("create", "-f", "-", stdin=pipeline_of(minimal_template()))
        patch = json.dumps({"status": status})
        kubectl("patch", "ipl", "shop", "--subresource=status", "--type=merge", "-p", patch)
        assert kubectl.json("get", "ipl", "shop")["status"] == status

    def test_unknown_value_of_a_policy_is_refused(self, kubectl: Kubectl, namespace: str) -> None:
        spec = pipeline_of(minimal_template())["spec"] | {"rerunPolicy": "OnFire"}
        with pytest.raises(CalledProcessError) as refused:
            kubectl.within(namespace)("create", "-f", "-", stdin=pipeline_of(None) | {"spec": spec})
        assert "spec.rerunPolicy: Unsupported value" in refused.value.stderr

    def test_new_pipeline_has_observed_generation_minus_one(
        self, kubectl: Kubectl, namespace: str
    ) -> None:
        """Otherwise kstatus would report a new pipeline as Current."""
        kubectl = kubectl.within(namespace)
        kubectl("create", "-f", "-", stdin=pipeline_of(minimal_template()))
        stored = json.loads(kubectl("get", "ipl", "shop", "-o", "json"))
        assert stored["status"] == {"observedGeneration": -1}


class TestColumns:
    """The columns of `kubectl get`."""

    STATUS: Final = {
        "initProgress": "1/2",
        "currentStep": "migrate",
        "podName": "shop",
        "nodeName": "node-1",
        "run": {"number": 3, "trigger": "PodLost", "startTime": "2026-01-01T00:00:00Z"},
        "conditions": [
            {
                "type": type_,
                "status": "False",
                "reason": reason,
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for type_, reason in [("Initialized", "StepRunning"), ("Ready", "StepFailed")]
        ],
    }
    NARROW: Final = ("NAME READY INIT STEP RUNS REASON", "shop False 1/2 migrate 3 StepFailed")
    WIDE: Final = ("POD NODE TRIGGER", "shop node-1 PodLost")

    @pytest.fixture
    def get(self, kubectl: Kubectl, namespace: str) -> Callable[..., str]:
        """Returns `kubectl get` in a namespace with a pipeline that has this status."""
        kubectl = kubectl.within(namespace)
        patch = json.dumps({"status": self.STATUS})
        kubectl("create", "-f", "-", stdin=pipeline_of(minimal_template()))
        kubectl("patch", "ipl", "shop", "--subresource=status", "--type=merge", "-p", patch)
        return partial(kubectl, "get")

    def test_default_columns_have_progress_and_reason(self, get: Callable[..., str]) -> None:
        header, row = (line.split() for line in get("ipl").splitlines())
        assert header == [*self.NARROW[0].split(), "AGE"]
        assert row[:-1] == self.NARROW[1].split()

    def test_wide_columns_have_pod_node_and_trigger(self, get: Callable[..., str]) -> None:
        header, row = (line.split() for line in get("ipl", "-o", "wide").splitlines())
        assert header == [*self.NARROW[0].split(), "AGE", *self.WIDE[0].split()]
        assert row[-3:] == self.WIDE[1].split()

    def test_category_all_excludes_pipelines(self, get: Callable[..., str]) -> None:
        """`kubectl delete all --all` must not delete what cannot be created again from a template,
        such as the history."""
        assert names.GROUP not in get("all", "-o", "name")


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yields the path and the schema of each field below a schema."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
    for keyword in {"items", "additionalProperties"} & schema.keys():
        yield from fields(schema[keyword], path)


def variations(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields a description and the changed value for each single change of a value."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield f".{key} left out", {name: value[name] for name in value if name != key}
            yield from ((f".{key}{what}", value | {key: new}) for what, new in variations(child))
    if isinstance(value, list):
        for index, child in enumerate(value):
            before, after = value[:index], value[index + 1 :]
            yield f"[{index}] twice", [*value, child]
            yield f"[{index}] null", [*before, None, *after]
            for what, new in variations(child):
                yield f"[{index}]{what}", [*before, new, *after]
    if isinstance(value, str):
        yield " empty", ""


def example(schema: Schema, definitions: Definitions) -> Any:
    """Returns a value that has every field of a published schema."""
    [target] = schema.get("allOf", [schema])
    if "$ref" in target:
        name = target["$ref"].rpartition("/")[2]
        leaf = LEAVES.get(name)
        return example(definitions[name], definitions) if leaf is None else leaf
    if "properties" in schema:
        return {key: example(one, definitions) for key, one in schema["properties"].items()}
    if "items" in schema:
        return [example(schema["items"], definitions)]
    if "additionalProperties" in schema:
        return {"key": example(schema["additionalProperties"], definitions)}
    simple = {"string": "text", "integer": 1, "boolean": True}
    return schema.get("enum", [simple[schema["type"]]])[0]
