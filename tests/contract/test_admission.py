"""An API server with the CRD and the admission policy accepts an InitPipeline if it accepts its Pod
and the template makes sense as a pipeline.

The table is admission.yaml. Two dry runs check each row: one creates the InitPipeline, one a Pod
of the same template.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api.itempaths import MOST_ITEMS, number_of_items
from initpipeline.api.podtemplate import MOST_NESTED
from initpipeline.api.raw import Raw
from initpipeline.core import admission
from tests.contract.admission_client import AdmissionClient, minimal_template, pipeline_of
from tests.contract.admission_table import (
    ACCEPTED,
    REFUSED,
    REFUSED_WHEN_APPLIED,
    REFUSED_WHEN_POD_IS_CREATED,
    Case,
    body_of,
    refused,
    template_of,
)
from tests.contract.many_items import BOUNDED, COUNTED, template_with
from tests.kubectl import Kubectl
from tests.poll import poll_until

POLICY: Final = Path(__file__).parents[2] / "manifests" / "base" / "admission.yaml"
TAKES_EFFECT_SECONDS: Final = 30

MOST_METADATA: Final = 1000
MOST_FIELDS: Final = 5000
MOST_CHARACTERS: Final = 65536
MOST_ANNOTATIONS: Final = 131072
MOST_TEXT: Final = 262144
CROWDED: Final = "crowded"

PROBE: Final = {"readinessProbe": {"tcpSocket": {"port": 1}}}


def with_step(**fields: Any) -> Raw:
    """Returns an InitPipeline whose only init container has these fields."""
    return body_of({"step": fields})


def with_labels(number: int, name: str = "shop") -> Raw:
    """Returns an InitPipeline with this number of labels."""
    body = pipeline_of(minimal_template(), name)
    body["metadata"]["labels"] = {f"l{index}": "" for index in range(number)}
    return body


def with_managed_fields(fields: Raw) -> Raw:
    """Returns an InitPipeline with a field manager of these fields of metadata."""
    body = pipeline_of(minimal_template())
    body["metadata"]["managedFields"] = [
        {
            "manager": "m",
            "operation": "Update",
            "apiVersion": "initpipeline.dev/v1alpha1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": fields},
        }
    ]
    return body


def long_template(characters: int) -> Raw:
    """Returns a template whose JSON has this number of characters, with a space after each comma.
    It has values of all types."""
    container: Raw = {
        "name": "app",
        "image": "i",
        "args": ['"quoted" \u00e4 {\n}, ', ""],
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {}},
        "securityContext": {"privileged": False, "runAsNonRoot": True},
    }
    template = minimal_template()
    template["spec"]["containers"] = [container]
    text = json.dumps(template, ensure_ascii=False, separators=(", ", ":"))
    container["args"][1] = "x" * (characters - len(text))
    return template


@pytest.fixture(scope="module")
def admission_client(api: client.ApiClient) -> AdmissionClient:
    """Returns a client for a shared namespace, since dry runs create nothing."""
    return AdmissionClient(api, "default")


@pytest.fixture(scope="module")
def existing_pipeline(kubectl: Kubectl) -> Iterator[str]:
    """Creates two pipelines that the policy would refuse: one for its spec, whose name is returned,
    and CROWDED for its number of labels."""
    crowded = with_labels(MOST_METADATA + 1, CROWDED)
    crowded["metadata"]["finalizers"] = ["example.com/wait"]
    kubectl("create", "-f", "-", stdin=crowded)
    name = "existing"
    kubectl("create", "-f", "-", stdin=pipeline_of(with_step(**PROBE)["spec"]["template"], name))
    yield name
    kubectl("delete", "ipl", name)


@pytest.fixture(scope="module")
def policy(
    admission_client: AdmissionClient, kubectl: Kubectl, existing_pipeline: str
) -> Iterator[str]:
    """Puts the admission policy in force. Returns the name of a pipeline from before."""

    probes = with_step(**PROBE), with_labels(MOST_METADATA + 1)

    def refused() -> list[bool]:
        return [admission_client.pipeline_refusal(probe) is not None for probe in probes]

    kubectl("apply", "-f", str(POLICY))
    _wait(lambda: all(refused()), "the policies are in force")
    yield existing_pipeline
    kubectl("delete", "-f", str(POLICY))
    _wait(lambda: not any(refused()), "the policies are no longer in force")


@pytest.fixture(scope="module")
def runtime_classes(api: client.ApiClient, admission_client: AdmissionClient) -> Iterator[None]:
    """Creates the RuntimeClasses of the table, and waits until admission knows them."""
    nodes = client.NodeV1Api(api)
    overhead = {"podFixed": {"cpu": "250m", "memory": "120Mi"}}
    classes = {"sandboxed": {}, "heavy": {"overhead": overhead}}
    for name, more in classes.items():
        nodes.create_runtime_class({"metadata": {"name": name}, "handler": "runc", **more})
        _wait(
            partial(_is_known, admission_client, name), f"admission knows the RuntimeClass {name}"
        )
    yield
    for name in classes:
        nodes.delete_runtime_class(name)


def _is_known(admission_client: AdmissionClient, runtime_class: str) -> bool:
    return (
        admission_client.pod_refusal(template_of({"spec": {"runtimeClassName": runtime_class}}))
        is None
    )


def _wait(condition: Callable[[], bool], what: str) -> None:
    poll_until(condition, TAKES_EFFECT_SECONDS, what)


class TestTable:
    def test_table_has_enough_rows_of_both_kinds(self) -> None:
        assert len(ACCEPTED) >= 60
        assert len(REFUSED) >= 60

    def test_refused_row_names_one_refuser(self) -> None:
        refusers = {*REFUSED_WHEN_APPLIED, *REFUSED_WHEN_POD_IS_CREATED}
        assert [name for name, row in REFUSED.items() if len(row.keys() & refusers) != 1] == []


@pytest.mark.newest
@pytest.mark.usefixtures("policy", "runtime_classes")
class TestAccepted:
    @pytest.mark.parametrize("row", ACCEPTED.values(), ids=ACCEPTED)
    def test_template_of_a_valid_pod_is_accepted_in_a_pipeline(
        self, admission_client: AdmissionClient, row: Raw
    ) -> None:
        assert admission_client.pod_refusal(template_of(row)) is None
        assert admission_client.pipeline_refusal(body_of(row)) is None


@pytest.mark.usefixtures("policy")
class TestRefused:
    @refused(*REFUSED_WHEN_APPLIED)
    def test_invalid_pipeline_is_refused_when_it_is_applied(
        self, admission_client: AdmissionClient, case: Case
    ) -> None:
        refusal = admission_client.pipeline_refusal(case.body)
        assert refusal is not None
        assert case.message in refusal.message
        assert ("ValidatingAdmissionPolicy" in refusal.message) is (case.by == "policy")

    @refused(*REFUSED_WHEN_POD_IS_CREATED)
    def test_invalid_pod_is_refused_when_it_is_created(
        self, admission_client: AdmissionClient, case: Case
    ) -> None:
        assert admission_client.pipeline_refusal(case.body) is None
        refusal = admission_client.pod_refusal(case.template)
        assert refusal is not None
        assert case.message in refusal.message
        classified = admission.classify(refusal.code, refusal.status)
        assert classified is not None
        assert classified.reason == case.by

    def test_kubectl_prints_the_field_and_the_reason(self, kubectl: Kubectl) -> None:
        with pytest.raises(CalledProcessError) as refused:
            kubectl("apply", "-f", "-", stdin=with_step(**PROBE))
        assert (
            "spec.template.spec.initContainers[0].readinessProbe: Forbidden: "
            "may not be set for init containers without restartPolicy=Always"
        ) in refused.value.stderr

    def test_message_is_shortened_if_there_are_too_many_errors(
        self, admission_client: AdmissionClient
    ) -> None:
        steps = [{"name": f"step-{number}", "image": "i", **PROBE} for number in range(100)]
        refusal = admission_client.pipeline_refusal(body_of({"spec": {"initContainers": steps}}))
        assert refusal is not None
        assert refusal.message.endswith("Invalid value: has too many errors to list")


@pytest.mark.usefixtures("policy")
class TestSizes:
    """Limits of the number of items, which the API server decodes one after the other."""

    @pytest.mark.parametrize("path", COUNTED)
    def test_template_with_too_many_items_is_refused(
        self, admission_client: AdmissionClient, path: str
    ) -> None:
        template = template_with(path, MOST_ITEMS + 1)
        refusal = admission_client.pipeline_refusal(pipeline_of(template))
        assert refusal is not None
        assert (
            f"spec.template: Too many: {number_of_items(template)}: must have at most "
            f"{MOST_ITEMS} list items and map entries in total: move variables to a ConfigMap, "
            "and arguments to a script"
        ) in refusal.message

    @pytest.mark.parametrize("path", BOUNDED)
    def test_outer_list_with_too_many_items_is_refused(
        self, admission_client: AdmissionClient, path: str
    ) -> None:
        template = template_with(path, MOST_NESTED + 1)
        refusal = admission_client.pipeline_refusal(pipeline_of(template))
        assert refusal is not None
        field = f"spec.template.{path}"
        assert f"{field}: Too many: 501: must have at most 500 items" in refusal.message

    def test_template_with_as_many_items_as_allowed_is_accepted(
        self, admission_client: AdmissionClient
    ) -> None:
        template = template_with("spec.tolerations", MOST_ITEMS - 2)
        assert number_of_items(template) == MOST_ITEMS
        assert admission_client.pipeline_refusal(pipeline_of(template)) is None

    def test_template_with_as_many_characters_as_allowed_is_accepted(
        self, admission_client: AdmissionClient
    ) -> None:
        template = long_template(MOST_CHARACTERS)
        assert admission_client.pipeline_refusal(pipeline_of(template)) is None

    def test_template_with_too_many_characters_is_refused(
        self, admission_client: AdmissionClient
    ) -> None:
        template = long_template(MOST_CHARACTERS + 1)
        refusal = admission_client.pipeline_refusal(pipeline_of(template))
        assert refusal is not None
        assert (
            f"spec.template: Too long: {MOST_CHARACTERS + 1}: must have at most "
            f"{MOST_CHARACTERS} characters in total: move files and scripts to a ConfigMap"
        ) in refusal.message

    def test_pipeline_of_900_containers_and_policies_is_accepted(
        self, admission_client: AdmissionClient
    ) -> None:
        inits = [{"name": f"step-{number}", "image": "i", "args": [""]} for number in range(300)]
        apps = [{"name": f"app-{number}", "image": "i", "args": [""]} for number in range(300)]
        policies = [{"name": step["name"]} for step in inits]
        body = pipeline_of({"spec": {"initContainers": inits, "containers": apps}})
        body["spec"]["initPolicies"] = policies
        assert admission_client.pipeline_refusal(body) is None

    def test_metadata_with_too_many_labels_is_refused(
        self, admission_client: AdmissionClient
    ) -> None:
        refusal = admission_client.pipeline_refusal(with_labels(MOST_METADATA + 1))
        assert refusal is not None
        assert (
            "metadata: Too many: 1001: must have at most 1000 labels, annotations, finalizers and "
            "ownerReferences in total"
        ) in refusal.message
        assert admission_client.pipeline_refusal(with_labels(MOST_METADATA)) is None

    @pytest.mark.parametrize(
        "field",
        [
            {"annotations": {f"a{index}": "" for index in range(MOST_METADATA + 1)}},
            {"finalizers": [f"a.b/{index}" for index in range(MOST_METADATA + 1)]},
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": f"{index}"}
                    for index in range(MOST_METADATA + 1)
                ]
            },
        ],
        ids=lambda field: next(iter(field)),
    )
    def test_metadata_with_too_many_entries_is_refused(
        self, admission_client: AdmissionClient, field: Raw
    ) -> None:
        body = pipeline_of(minimal_template())
        body["metadata"] |= field
        refusal = admission_client.pipeline_refusal(body)
        assert refusal is not None
        assert "metadata: Too many: 1001: " in refusal.message

    def test_managed_fields_that_are_too_many_are_refused(
        self, admission_client: AdmissionClient
    ) -> None:
        fields: Raw = {f"f:{index}": {} for index in range(MOST_FIELDS)}
        refusal = admission_client.pipeline_refusal(with_managed_fields(fields))
        assert refusal is not None
        assert "metadata.managedFields: Too many: 50" in refusal.message
        assert "must have at most 5000 fields: remove field managers" in refusal.message

    def test_annotations_that_are_too_long_are_refused(
        self, admission_client: AdmissionClient
    ) -> None:
        body = pipeline_of(minimal_template())
        body["metadata"]["annotations"] = {"a": "x" * MOST_ANNOTATIONS}
        refusal = admission_client.pipeline_refusal(body)
        assert refusal is not None
        message = "metadata.annotations: Too long: 131080: must have at most 131072 characters"
        assert message in refusal.message

    def test_managed_fields_that_are_too_long_are_refused(
        self, admission_client: AdmissionClient
    ) -> None:
        fields: Raw = {f"f:{index}{'x' * 1000}": {} for index in range(MOST_TEXT // 1000)}
        refusal = admission_client.pipeline_refusal(with_managed_fields(fields))
        assert refusal is not None
        assert "metadata.managedFields: Too long: 26" in refusal.message
        assert "must have at most 262144 characters: remove field managers" in refusal.message

    def test_managed_fields_in_a_template_are_refused(
        self, admission_client: AdmissionClient
    ) -> None:
        template = minimal_template() | {"metadata": {"managedFields": [{"manager": "m"}]}}
        refusal = admission_client.pipeline_refusal(pipeline_of(template))
        assert refusal is not None
        field = "spec.template.metadata.managedFields"
        assert f"{field}: Too many: 1: must have at most 0 items" in refusal.message

    @pytest.mark.parametrize(
        ("statuses", "message"),
        [
            pytest.param(
                [{"name": f"n{index}", "x": [""] * 1000} for index in range(6)],
                "status: Too many: 60",
                id="fields",
            ),
            pytest.param(
                [{"name": "n", "image": "x" * MOST_TEXT}], "status: Too long: 262", id="characters"
            ),
        ],
    )
    def test_status_above_the_limit_is_refused(
        self, kubectl: Kubectl, policy: str, tmp_path: Path, statuses: list[Raw], message: str
    ) -> None:
        patch = tmp_path / "patch.json"
        patch.write_text(json.dumps({"status": {"initContainerStatuses": statuses}}))
        options = ("--type=merge", f"--patch-file={patch}", "--subresource=status")
        with pytest.raises(CalledProcessError) as refused:
            kubectl("patch", "ipl", policy, *options)
        assert message in refused.value.stderr

    def test_change_of_metadata_is_refused(self, kubectl: Kubectl, policy: str) -> None:
        patch = json.dumps(
            {"metadata": with_labels(MOST_METADATA + 1)["metadata"] | {"name": policy}}
        )
        with pytest.raises(CalledProcessError) as refused:
            kubectl("patch", "ipl", policy, "--type=merge", "-p", patch)
        assert "metadata: Too many: 1001" in refused.value.stderr

    def test_deletion_of_an_object_above_the_limit_completes(self, kubectl: Kubectl) -> None:
        patch = json.dumps({"metadata": {"finalizers": None}})
        change = "patch", "ipl", CROWDED, "--type=merge", "-p", patch
        with pytest.raises(CalledProcessError):
            kubectl(*change)
        kubectl("delete", "ipl", CROWDED, "--wait=false")
        kubectl(*change)
        assert kubectl("get", "ipl", CROWDED, "--ignore-not-found") == ""

    def test_metadata_above_the_limit_is_refused_with_a_deletion_timestamp(
        self, kubectl: Kubectl
    ) -> None:
        """A server-side apply can create an object that has one."""
        body = with_labels(MOST_METADATA + 1)
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        with pytest.raises(CalledProcessError) as refused:
            kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=body)
        assert "metadata: Too many: 1001" in refused.value.stderr


def grown_template(body: Raw) -> None:
    body["spec"]["template"] = long_template(MOST_CHARACTERS + 1)


def grown_labels(body: Raw) -> None:
    body["metadata"]["labels"] = with_labels(MOST_METADATA + 1)["metadata"]["labels"]


def grown_annotations(body: Raw) -> None:
    body["metadata"]["annotations"] = {"a": "x" * MOST_ANNOTATIONS}


def grown_managed_fields(body: Raw) -> None:
    fields: Raw = {f"f:{index}": {} for index in range(MOST_FIELDS)}
    body["metadata"]["managedFields"] = with_managed_fields(fields)["metadata"]["managedFields"]


@pytest.mark.usefixtures("policy")
class TestDeletion:
    """Changes of an InitPipeline whose deletion waits for finalizers."""

    @pytest.fixture
    def waiting(self, kubectl: Kubectl, namespace: str) -> Raw:
        body = pipeline_of(minimal_template())
        body["metadata"] |= {"namespace": namespace, "finalizers": ["a.b/1", "a.b/2"]}
        kubectl("create", "-f", "-", stdin=body)
        kubectl("-n", namespace, "delete", "ipl", "shop", "--wait=false")
        command = "-n", namespace, "get", "ipl", "shop", "-o", "json", "--show-managed-fields"
        found: Raw = json.loads(kubectl(*command))
        return found

    @pytest.mark.parametrize(
        "grow", [grown_template, grown_labels, grown_annotations, grown_managed_fields]
    )
    @pytest.mark.parametrize("last_step", [False, True], ids=["alone", "with a finalizer"])
    def test_growth_above_the_limit_is_refused(
        self, kubectl: Kubectl, waiting: Raw, grow: Callable[[Raw], None], last_step: bool
    ) -> None:
        grow(waiting)
        if last_step:
            waiting["metadata"]["finalizers"].pop()
        with pytest.raises(CalledProcessError) as refused:
            kubectl("replace", "-f", "-", stdin=waiting)
        assert "sizes.initpipelines.initpipeline.dev" in refused.value.stderr

    def test_finalizers_are_removed(self, kubectl: Kubectl, waiting: Raw) -> None:
        waiting["metadata"]["finalizers"].pop()
        kubectl("replace", "-f", "-", stdin=waiting)


class TestChange:
    """Changes of an existing InitPipeline."""

    def patch(self, kubectl: Kubectl, name: str, change: Raw, *options: str) -> str:
        """Patch a pipeline with kubectl."""
        patch = json.dumps(change)
        return kubectl("patch", "ipl", name, "--type=merge", "-p", patch, *options)

    @pytest.mark.usefixtures("policy")
    def test_invalid_change_is_refused(self, kubectl: Kubectl, namespace: str) -> None:
        kubectl("-n", namespace, "create", "-f", "-", stdin=pipeline_of(minimal_template()))
        change = {"spec": {"initPolicies": [{"name": "typo"}]}}
        with pytest.raises(CalledProcessError) as refused:
            self.patch(kubectl, "shop", change, "-n", namespace)
        assert 'spec.initPolicies[0].name: Not found: "typo"' in refused.value.stderr

    @pytest.mark.parametrize(
        ("change", "options"),
        [
            pytest.param({"metadata": {"labels": {"a": "b"}}}, (), id="label"),
            pytest.param({"metadata": {"annotations": {"a": "b"}}}, (), id="annotation"),
            pytest.param({"metadata": {"finalizers": ["a.b/c"]}}, (), id="finalizer"),
            pytest.param(
                {"status": {"initProgress": "1/2"}}, ("--subresource=status",), id="status"
            ),
            pytest.param(
                {"spec": {"template": {"spec": {"initContainers": [{"name": "a", "image": "i"}]}}}},
                (),
                id="corrected template",
            ),
        ],
    )
    def test_pipeline_from_before_the_policy_accepts_a_change_outside_the_error(
        self, kubectl: Kubectl, policy: str, change: Raw, options: tuple[str, ...]
    ) -> None:
        self.patch(kubectl, policy, change, "--dry-run=server", *options)

    def test_pipeline_from_before_the_policy_refuses_another_spec_change(
        self, kubectl: Kubectl, policy: str
    ) -> None:
        with pytest.raises(CalledProcessError) as refused:
            self.patch(kubectl, policy, {"spec": {"backoffLimit": 1}}, "--dry-run=server")
        assert "readinessProbe: Forbidden" in refused.value.stderr
