"""The operator treats two templates as equal if the API server stores the same Pod for both.

The order of some lists has no effect, so it is ignored.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from crds.generate import FIELDS_FILE, core_definitions, pod_fields
from initpipeline.api import names
from initpipeline.api.podtemplate import CORE, Definitions
from initpipeline.core import podspec
from initpipeline.core.template import digest
from initpipeline.core.template_changes import changes
from tests import libyaml
from tests.builders import outage_tolerations, pipeline
from tests.cluster.cluster import Cluster
from tests.contract.admission_client import Template
from tests.contract.mutations import QUANTITY, mutations, resolved, respellings, thousandths

pytestmark = pytest.mark.newest

ROOT: Final = Path(__file__).parents[2]
OPERATOR_KEYS: Final = names.POD_ANNOTATIONS | names.POD_LABELS

_YAML_BLOCK: Final = re.compile(r"```yaml\n(.*?)```", re.DOTALL)

ORDER_HAS_NO_EFFECT: Final = (
    *(".finalizers", ".tolerations", ".volumes", ".schedulingGates", ".matchExpressions"),
    *(".topologySpreadConstraints", ".nodeSelectorTerms", ".values", ".accessModes"),
    *(".add", ".drop", ".claims", ".resourceClaims"),
)


def documents(path: Path) -> Iterator[tuple[str, Any]]:
    text = path.read_text()
    blocks = _YAML_BLOCK.findall(text) if path.suffix == ".md" else [text]
    for block in (block for block in blocks if "{{" not in block):  # Skips Helm charts.
        for number, document in enumerate(libyaml.safe_load_all(block)):
            for key, value in document.items() if isinstance(document, dict) else ():
                yield f"{path.stem} {key} {number}", value


def pod_templates(value: Any) -> Iterator[Template]:
    """Yields each Pod template in an object of any kind."""
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
    templates = dict(documents(here / "pod_templates.yaml"))
    files = [
        here / "workloads.yaml",
        *sorted((ROOT / "manifests/examples").glob("*.yaml")),
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    for file in files:
        for name, value in documents(file):
            templates.update((name, template) for template in pod_templates({name: value}))
    return templates


CORPUS: Final = corpus()
each_template = pytest.mark.parametrize("template", CORPUS.values(), ids=CORPUS.keys())


@pytest.fixture(scope="session")
def definitions(control_plane: Cluster) -> Definitions:
    return core_definitions(control_plane)


class StoredPods:
    """Pods as the API server would store them, from dry runs."""

    def __init__(self, api: client.ApiClient, namespace: str, definitions: Definitions) -> None:
        self._create = client.CoreV1Api(api).create_namespaced_pod
        self._namespace = namespace
        self._definitions = definitions

    def pod(self, template: Template) -> Template | None:
        """Returns the operator's Pod as stored, in the form of a template. None: the API server
        refuses it."""
        manifest = podspec.build(pipeline().with_template(template).build(), 1)
        del manifest["metadata"]["namespace"]
        options = {"dry_run": "All", "_preload_content": False}
        try:
            pod = json.loads(self._create(self._namespace, manifest, **options).data)
        except client.ApiException as error:
            if error.status not in {400, 403, 422, 500}:
                raise
            return None
        metadata = {
            "labels": without(pod["metadata"]["labels"], OPERATOR_KEYS),
            "annotations": without(pod["metadata"]["annotations"], OPERATOR_KEYS),
            "finalizers": pod["metadata"].get("finalizers", []),
        }
        spec = pod["spec"]
        manifest_spec = manifest["spec"]
        for key in SET_BY_ADMISSION:
            if manifest_spec.get(key) is None:
                spec.pop(key, None)
        spec["tolerations"] = [
            one for one in spec.get("tolerations", ()) if one not in ADDED_TOLERATIONS
        ]
        return {"metadata": metadata, "spec": spec}

    def are_equal(self, one: Template, other: Template) -> bool:
        """Returns whether two stored templates differ at most in notation."""
        return bool(self.normalized(one) == self.normalized(other))

    def normalized(self, template: Template) -> Any:
        """Returns the template with quantities as numbers, and without empty lists and maps."""
        return normalized(
            {"allOf": [{"$ref": f"{CORE}PodTemplateSpec"}]}, template, self._definitions
        )


SET_BY_ADMISSION: Final = ("priority", "preemptionPolicy")
ADDED_TOLERATIONS: Final = outage_tolerations(300)
"""The admission plugin DefaultTolerationSeconds adds these."""

DISABLED_FIELDS: Final = ("stopSignal", "clusterTrustBundle", "podCertificate", "schedulingGroup")
"""Fields that this API server drops, because their feature gates are disabled by default. The
result must not depend on that, since another API server may keep them."""


def without(values: dict[str, str], left_out: Iterable[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key not in set(left_out)}


def normalized(schema: Any, value: Any, definitions: Definitions) -> Any:
    type_, schema = resolved(schema, definitions)
    if type_ == QUANTITY:
        return thousandths(value)
    if isinstance(value, list):
        return [normalized(schema["items"], item, definitions) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        children = schema["properties"]
        return {
            key: normalized(children[key], item, definitions)
            for key, item in value.items()
            if item not in (None, [])
        }
    if isinstance(value, dict) and "additionalProperties" in schema:
        child = schema["additionalProperties"]
        return {key: normalized(child, item, definitions) for key, item in value.items()}
    return value


def without_disabled_fields(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in DISABLED_FIELDS}
        return {key: without_disabled_fields(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_disabled_fields(item) for item in value]
    return value


@pytest.fixture
def stored(api: client.ApiClient, namespace: str, definitions: Definitions) -> StoredPods:
    return StoredPods(api, namespace, definitions)


def template_schema() -> dict[str, Any]:
    return {"$ref": f"{CORE}PodTemplateSpec"}


def in_parallel(check: Callable[[Any], str | None], cases: Iterable[Any]) -> list[str]:
    with ThreadPoolExecutor(4) as executor:
        return [wrong for wrong in executor.map(check, cases) if wrong]


def test_field_list_equals_the_generated_one() -> None:
    assert FIELDS_FILE.read_text() == pod_fields(), "run: make generate"


@each_template
def test_template_with_all_defaults_set_is_equal(stored: StoredPods, template: Template) -> None:
    pod, template = map(without_disabled_fields, (stored.pod(template), template))
    assert pod is not None
    assert changes(template, pod) == []
    assert digest(pod) == digest(template)


@each_template
def test_quantity_in_another_notation_is_equal(
    stored: StoredPods, definitions: Definitions, template: Template
) -> None:
    before, hash_ = stored.pod(template), digest(template)
    assert before is not None

    def wrong(case: tuple[str, Template]) -> str | None:
        what, other = case
        after = stored.pod(other)
        if after is None:
            return None
        assert stored.are_equal(before, after), what
        return None if digest(other) == hash_ else what

    assert in_parallel(wrong, respellings(template_schema(), template, definitions)) == []


@pytest.fixture(scope="session")
def checked() -> set[str]:
    """Changes that were checked in an earlier template and need no second check."""
    return set()


@each_template
def test_changed_field_is_unequal_if_the_api_server_stores_another_pod(
    stored: StoredPods, definitions: Definitions, checked: set[str], template: Template
) -> None:
    before, hash_ = stored.pod(template), digest(without_disabled_fields(template))
    assert before is not None

    def wrong(case: tuple[str, Template]) -> str | None:
        what, other = case
        after = stored.pod(other)
        if after is None and (what.endswith((" added as []", " added as {}"))):
            return None  # The operator treats an empty list as absent, which is valid.
        same = after is not None and stored.are_equal(before, after)
        if what.endswith(" reversed") and what.split()[0].endswith(ORDER_HAS_NO_EFFECT):
            same = True
        if same == (digest(without_disabled_fields(other)) == hash_):
            return None
        return f"{what}: {'equal' if same else 'another'} Pod"

    cases = list(mutations(template_schema(), template, definitions))
    new = [case for case in cases if case[0] not in checked and has_containers(case[1])]
    checked.update(what for what, _ in cases)
    assert in_parallel(wrong, new) == []


def has_containers(template: Template) -> bool:
    """Returns whether the CRD accepts the template: it requires containers, each with a name."""
    spec = template.get("spec") or {}
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return bool(spec.get("containers")) and all(one and one.get("name") for one in containers)
