"""Equal templates: what the operator takes for equal, and what a real API server stores.

The API server decides: two templates are equal if it stores the same Pod for both, apart from lists
whose order has no effect.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kubernetes import client

from crds.generate import FIELDS_FILE, core_definitions, pod_fields
from initpipeline.api import names
from initpipeline.api.podtemplate import CORE, Definitions
from initpipeline.core import podspec
from initpipeline.core.template import changes, digest
from tests.builders import pipeline
from tests.cluster.cluster import Cluster
from tests.contract.door import Template
from tests.contract.mutations import QUANTITY, mutations, resolved, respellings, thousandths

pytestmark = pytest.mark.newest

ROOT: Final = Path(__file__).parents[2]
OURS: Final = names.POD_ANNOTATIONS | names.POD_LABELS

_YAML_BLOCK: Final = re.compile(r"```yaml\n(.*?)```", re.DOTALL)

ORDER_HAS_NO_EFFECT: Final = (
    *(".finalizers", ".tolerations", ".volumes", ".schedulingGates", ".matchExpressions"),
    *(".topologySpreadConstraints", ".nodeSelectorTerms", ".values", ".accessModes"),
    *(".add", ".drop", ".claims", ".resourceClaims"),
)


def documents(path: Path) -> Iterator[tuple[str, Any]]:
    text = path.read_text()
    blocks = _YAML_BLOCK.findall(text) if path.suffix == ".md" else [text]
    for block in (block for block in blocks if "{{" not in block):  # no Helm charts
        for number, document in enumerate(yaml.safe_load_all(block)):
            for key, value in document.items() if isinstance(document, dict) else ():
                yield f"{path.stem} {key} {number}", value


def pod_templates(value: Any) -> Iterator[Template]:
    """Each Pod template in an object of any kind."""
    if not isinstance(value, dict):
        return
    if {"initContainers", "containers"} <= (value.get("spec") or {}).keys():
        metadata = value.get("metadata") or {}
        kept = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
        yield {"metadata": kept, "spec": value["spec"]}
    elif "volumeClaimTemplates" in value:
        claims = [claim["metadata"]["name"] for claim in value["volumeClaimTemplates"]]
        for template in pod_templates(value["template"]):
            volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", ())}
            volumes |= {name: {"name": name, "emptyDir": {}} for name in claims}
            yield template | {"spec": template["spec"] | {"volumes": list(volumes.values())}}
    else:
        for child in value.values():
            yield from pod_templates(child)


def corpus() -> dict[str, Template]:
    here = Path(__file__).parent
    found = dict(documents(here / "pod_templates.yaml"))
    files = [
        here / "workloads.yaml",
        *sorted((ROOT / "manifests/examples").glob("*.yaml")),
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    for file in files:
        for name, value in documents(file):
            found.update((name, template) for template in pod_templates({name: value}))
    return found


CORPUS: Final = corpus()
each_template = pytest.mark.parametrize("template", CORPUS.values(), ids=CORPUS.keys())


@pytest.fixture(scope="session")
def definitions(control_plane: Cluster) -> Definitions:
    return core_definitions(control_plane)


class Server:
    """The API server, asked what it would store."""

    def __init__(self, api: client.ApiClient, namespace: str, definitions: Definitions) -> None:
        self._create = client.CoreV1Api(api).create_namespaced_pod
        self._namespace = namespace
        self._definitions = definitions

    def pod(self, template: Template) -> Template | None:
        """What it stores of the Pod that the operator creates, as a template. None: it refuses."""
        manifest = podspec.build(pipeline().with_template(template).build(), 1)
        del manifest["metadata"]["namespace"]
        options = {"dry_run": "All", "_preload_content": False}
        try:
            answer = json.loads(self._create(self._namespace, manifest, **options).data)
        except client.ApiException as error:
            if error.status not in {400, 403, 422, 500}:
                raise
            return None
        metadata = {
            "labels": without(answer["metadata"]["labels"], OURS),
            "annotations": without(answer["metadata"]["annotations"], OURS),
            "finalizers": answer["metadata"].get("finalizers", []),
        }
        spec = answer["spec"]
        written = manifest["spec"]
        for key in ADMITTED:
            if written.get(key) is None:
                spec.pop(key, None)
        spec["tolerations"] = [
            one for one in spec.get("tolerations", ()) if one not in ADDED_TOLERATIONS
        ]
        return {"metadata": metadata, "spec": spec}

    def stores_the_same(self, one: Template, other: Template) -> bool:
        return bool(self.meant(one) == self.meant(other))

    def meant(self, template: Template) -> Any:
        """The template in one spelling: amounts as numbers, empty lists and maps left out."""
        return spelled({"allOf": [{"$ref": f"{CORE}PodTemplateSpec"}]}, template, self._definitions)


ADMITTED: Final = ("priority", "preemptionPolicy")
ADDED_TOLERATIONS: Final = [
    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
]
"""By the admission plugins Priority and DefaultTolerationSeconds."""

OFF: Final = ("stopSignal", "clusterTrustBundle", "podCertificate", "schedulingGroup")
"""Fields that this API server drops, since their feature gates are off by default. The rules must
not depend on that: another API server keeps them."""


def without(values: dict[str, str], left_out: Iterable[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key not in set(left_out)}


def spelled(schema: Any, value: Any, definitions: Definitions) -> Any:
    type_, schema = resolved(schema, definitions)
    if type_ == QUANTITY:
        return thousandths(value)
    if isinstance(value, list):
        return [spelled(schema["items"], item, definitions) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        children = schema["properties"]
        return {
            key: spelled(children[key], item, definitions)
            for key, item in value.items()
            if item not in (None, [])
        }
    if isinstance(value, dict) and "additionalProperties" in schema:
        child = schema["additionalProperties"]
        return {key: spelled(child, item, definitions) for key, item in value.items()}
    return value


def without_what_is_off(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in OFF}
        return {key: without_what_is_off(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_what_is_off(item) for item in value]
    return value


@pytest.fixture
def server(api: client.ApiClient, namespace: str, definitions: Definitions) -> Server:
    return Server(api, namespace, definitions)


def template_schema() -> dict[str, Any]:
    return {"$ref": f"{CORE}PodTemplateSpec"}


def in_parallel(judge: Callable[[Any], str | None], cases: Iterable[Any]) -> list[str]:
    with ThreadPoolExecutor(4) as executor:
        return [wrong for wrong in executor.map(judge, cases) if wrong]


def test_fields_are_those_of_the_kubernetes_version() -> None:
    assert FIELDS_FILE.read_text() == pod_fields(), "run: make generate"


@each_template
def test_template_with_all_defaults_written_out_is_equal(
    server: Server, template: Template
) -> None:
    stored, template = map(without_what_is_off, (server.pod(template), template))
    assert stored is not None
    assert changes(template, stored) == []
    assert digest(stored) == digest(template)


@each_template
def test_amount_in_another_spelling_is_equal(
    server: Server, definitions: Definitions, template: Template
) -> None:
    before, hash_ = server.pod(template), digest(template)
    assert before is not None

    def wrong(case: tuple[str, Template]) -> str | None:
        what, other = case
        after = server.pod(other)
        if after is None:
            return None
        assert server.stores_the_same(before, after), what
        return None if digest(other) == hash_ else what

    assert in_parallel(wrong, respellings(template_schema(), template, definitions)) == []


@pytest.fixture(scope="session")
def judged() -> set[str]:
    """Changes that were judged in an earlier template: the same in another is left out."""
    return set()


@each_template
def test_changed_field_is_unequal_if_the_api_server_stores_another_pod(
    server: Server, definitions: Definitions, judged: set[str], template: Template
) -> None:
    before, hash_ = server.pod(template), digest(without_what_is_off(template))
    assert before is not None

    def wrong(case: tuple[str, Template]) -> str | None:
        what, other = case
        after = server.pod(other)
        if after is None and (what.endswith((" added as []", " added as {}"))):
            return None  # Valid again if it is left out, which is what an empty list means.
        same = after is not None and server.stores_the_same(before, after)
        if what.endswith(" turned round") and what.split()[0].endswith(ORDER_HAS_NO_EFFECT):
            same = True
        if same == (digest(without_what_is_off(other)) == hash_):
            return None
        return f"{what}: {'equal' if same else 'other'} Pod"

    cases = list(mutations(template_schema(), template, definitions))
    new = [case for case in cases if case[0] not in judged and has_containers(case[1])]
    judged.update(what for what, _ in cases)
    assert in_parallel(wrong, new) == []


def has_containers(template: Template) -> bool:
    """Returns whether the CRD takes the template: it requires containers, each with a name."""
    spec = template.get("spec") or {}
    every = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return bool(spec.get("containers")) and all(one and one.get("name") for one in every)
