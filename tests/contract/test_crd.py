"""The generated CRD on a real API server: what it takes, refuses, keeps, shows and explains."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

import pytest
import yaml

from crds import meanings
from crds.generate import CRD_FILE, core_definitions, rendered
from initpipeline.api import names
from initpipeline.api.crd import custom_resource_definition
from initpipeline.api.podtemplate import CORE, MACHINERY, Definitions, Schema
from tests.cluster.cluster import Cluster
from tests.contract.conftest import CRDS, Kubectl
from tests.contract.door import Door, Template, minimal, pipeline

pytestmark = pytest.mark.newest

TEMPLATES: Final[dict[str, Template]] = yaml.safe_load(
    Path(__file__).with_name("pod_templates.yaml").read_text()
)
each_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())

UNJUDGED: Final = "clusterTrustBundle.path"
"""By default the API server drops this volume source from a Pod before it looks into it."""

OURS: Final = ".spec.initContainers left out"
"""A Pod may go without init containers, a pipeline may not."""

LEAVES: Final = {
    f"{MACHINERY}api.resource.Quantity": 0.5,
    f"{MACHINERY}util.intstr.IntOrString": "http",
    f"{MACHINERY}apis.meta.v1.FieldsV1": {"f:spec": {}},
    f"{MACHINERY}apis.meta.v1.Time": "2026-01-01T00:00:00Z",
}
"""Examples of values whose published schema doesn't tell."""


class TestFile:
    """crds/initpipelines.yaml."""

    def test_is_what_generating_it_gives(self, control_plane: Cluster) -> None:
        generated = rendered(
            custom_resource_definition(core_definitions(control_plane), meanings.of_values())
        )
        assert CRD_FILE.read_text() == generated, "run: make generate"

    def test_is_under_200_kb(self) -> None:
        assert CRD_FILE.stat().st_size < 200_000

    @pytest.mark.parametrize(
        "options", [(), ("--server-side", "--force-conflicts")], ids=["client-side", "server-side"]
    )
    def test_can_be_applied(self, kubectl: Kubectl, options: tuple[str, ...]) -> None:
        assert f"{names.PLURAL}.{names.GROUP}" in kubectl("apply", *options, "-f", str(CRDS))

    def test_kustomize_reads_its_aliases(self, kubectl: Kubectl, tmp_path: Path) -> None:
        shutil.copy(CRD_FILE, tmp_path)
        (tmp_path / "kustomization.yaml").write_text(f"resources: [{CRD_FILE.name}]")
        built = yaml.safe_load(kubectl("kustomize", str(tmp_path)))
        assert built == yaml.safe_load(CRD_FILE.read_text())


class TestExplain:
    """`kubectl explain`."""

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("", "InitPipeline creates a Pod, runs its init containers in order"),
            ("spec.template.metadata.labels", "Map of string keys and values"),
            ("spec.template.spec.initContainers", "List of initialization containers"),
            ("spec.template.spec.initContainers.restartPolicyRules.exitCodes.values", "exit codes"),
            ("spec.template.spec.containers.resources.limits", "maximum amount of compute"),
            ("spec.template.spec.containers.livenessProbe.httpGet.port", "Name or number"),
            ("spec.template.spec.volumes.projected.sources.secret.items.mode", "mode bits"),
            ("status.initContainerStatuses.lastState.terminated.exitCode", "Exit status"),
            ("status.history.failedStep.message", "Termination message"),
        ],
        ids=lambda value: value.rpartition(".")[2],
    )
    def test_knows_each_level(self, kubectl: Kubectl, path: str, words: str) -> None:
        explained = kubectl("explain", ".".join(filter(None, [names.SINGULAR, path])))
        assert words in " ".join(explained.split())

    def test_says_something_about_every_field(self) -> None:
        crd = yaml.safe_load(CRD_FILE.read_text())
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        without = [path for path, field in fields(schema) if "description" not in field]
        assert without == [".metadata"], "of metadata the API server says it itself"


class TestRefused:
    """What has not even the form of a Pod template; more of it is in admission.yaml."""

    @pytest.mark.parametrize(
        "quantity",
        ["", "half", "1x", "1 Gi", "1,5", True, [], ["1"], {}, {"cpu": 1}],
        ids=repr,
    )
    def test_quantity(self, door: Door, quantity: object) -> None:
        template = minimal()
        template["spec"]["containers"][0]["resources"] = {"limits": {"cpu": quantity}}
        path = "spec.template.spec.containers[0].resources.limits.cpu"
        refusal = door.refusal(pipeline(template))
        assert refusal is not None
        assert path in refusal.message
        assert door.pod_refusal(template)

    @pytest.mark.parametrize("spec", [None, {}, {"template": None}], ids=repr)
    def test_without_template(self, kubectl: Kubectl, spec: object) -> None:
        with pytest.raises(CalledProcessError) as refused:
            kubectl("apply", "-f", "-", stdin=pipeline(None) | {"spec": spec})
        assert "Required value" in refused.value.stderr


class TestKept:
    """What is accepted comes back as it was written: nothing pruned, nothing added."""

    @each_template
    def test_template_that_a_pod_accepts(self, door: Door, template: Template) -> None:
        assert door.pod_refusal(template) is None
        assert door.stored(template) == template

    def test_every_field_there_is(self, control_plane: Cluster, door: Door) -> None:
        definitions = core_definitions(control_plane)
        template = example(definitions[f"{CORE}PodTemplateSpec"], definitions)
        del template["spec"]["ephemeralContainers"]
        assert door.stored(template) == template

    def test_null_in_a_list(self, door: Door) -> None:
        template = minimal()
        template["spec"]["containers"][0]["args"] = ["serve", None]
        assert door.stored(template) == template

    def test_null_in_an_object_is_as_if_absent(self, door: Door) -> None:
        template = minimal()
        template["metadata"] = {"creationTimestamp": None, "labels": {"tier": None}}
        template["spec"] |= {"nodeSelector": None, "volumes": None}
        assert door.stored(template) == minimal() | {"metadata": {"labels": {}}}

    @each_template
    def test_nothing_is_refused_that_a_pod_accepts(self, door: Door, template: Template) -> None:
        """Each field left out, each item twice or null, each text empty."""

        def refused(case: tuple[str, Template]) -> str | None:
            refusal = door.refusal(pipeline(case[1]))
            pod_refusal = refusal and door.pod_refusal(case[1])
            return f"{case[0]}: {refusal.message}" if refusal and not pod_refusal else None

        cases = [
            case for case in variations(template) if UNJUDGED not in case[0] and case[0] != OURS
        ]
        with ThreadPoolExecutor() as executor:
            assert [message for message in executor.map(refused, cases) if message] == []


class TestStatus:
    """The status subresource."""

    def test_mirror_keeps_what_newer_kubelets_say(self, kubectl: Kubectl, namespace: str) -> None:
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
        run = ("-n", namespace)
        kubectl(*run, "create", "-f", "-", stdin=pipeline(minimal()))
        patch = json.dumps({"status": {"initContainerStatuses": statuses}})
        kubectl(*run, "patch", "ipl", "shop", "--subresource=status", "--type=merge", "-p", patch)
        stored = json.loads(kubectl(*run, "get", "ipl", "shop", "-o", "json"))
        assert stored["status"]["initContainerStatuses"] == statuses

    def test_says_before_it_is_written_that_nothing_was_observed(
        self, kubectl: Kubectl, namespace: str
    ) -> None:
        """Else whoever waits by kstatus takes the new pipeline for one that is done."""
        run = ("-n", namespace)
        kubectl(*run, "create", "-f", "-", stdin=pipeline(minimal()))
        stored = json.loads(kubectl(*run, "get", "ipl", "shop", "-o", "json"))
        assert stored["status"] == {"observedGeneration": -1}


class TestColumns:
    """What `kubectl get` shows."""

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
    def run(self, kubectl: Kubectl, namespace: str) -> Kubectl:
        def run(*arguments: str, stdin: object = None) -> str:
            return kubectl("-n", namespace, *arguments, stdin=stdin)

        patch = json.dumps({"status": self.STATUS})
        run("create", "-f", "-", stdin=pipeline(minimal()))
        run("patch", "ipl", "shop", "--subresource=status", "--type=merge", "-p", patch)
        return run

    def test_narrow(self, run: Kubectl) -> None:
        header, row = (line.split() for line in run("get", "ipl").splitlines())
        assert header == [*self.NARROW[0].split(), "AGE"]
        assert row[:-1] == self.NARROW[1].split()

    def test_wide(self, run: Kubectl) -> None:
        header, row = (line.split() for line in run("get", "ipl", "-o", "wide").splitlines())
        assert header == [*self.NARROW[0].split(), "AGE", *self.WIDE[0].split()]
        assert row[-3:] == self.WIDE[1].split()

    def test_is_among_all(self, run: Kubectl) -> None:
        assert f"{names.SINGULAR}.{names.GROUP}/shop" in run("get", "all", "-o", "name")


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Each field below a schema, with its path."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
    for keyword in {"items", "additionalProperties"} & schema.keys():
        yield from fields(schema[keyword], path)


def variations(value: Any) -> Iterator[tuple[str, Any]]:
    """The same value with one thing in it changed, and what that is."""
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
    """A value that has every field of a published schema."""
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
