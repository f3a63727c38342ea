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
from tests.kubectl import Kubectl
from tests.poll import poll_until

POLICY: Final = Path(__file__).parents[2] / "manifests" / "base" / "admission.yaml"
TAKES_EFFECT_SECONDS: Final = 30

PROBE: Final = {"readinessProbe": {"tcpSocket": {"port": 1}}}


def with_step(**fields: Any) -> Raw:
    """Returns an InitPipeline whose only init container has these fields."""
    return body_of({"step": fields})


@pytest.fixture(scope="module")
def admission_client(api: client.ApiClient) -> AdmissionClient:
    """Returns a client for a shared namespace, since dry runs create nothing."""
    return AdmissionClient(api, "default")


@pytest.fixture(scope="module")
def existing_pipeline(kubectl: Kubectl) -> Iterator[str]:
    """Creates a pipeline that the policy would refuse. Returns its name."""
    name = "existing"
    kubectl("create", "-f", "-", stdin=pipeline_of(with_step(**PROBE)["spec"]["template"], name))
    yield name
    kubectl("delete", "ipl", name)


@pytest.fixture(scope="module")
def policy(
    admission_client: AdmissionClient, kubectl: Kubectl, existing_pipeline: str
) -> Iterator[str]:
    """Puts the admission policy in force. Returns the name of a pipeline from before."""

    def in_force() -> bool:
        return admission_client.pipeline_refusal(with_step(**PROBE)) is not None

    kubectl("apply", "-f", str(POLICY))
    _wait(in_force, "the policy is in force")
    yield existing_pipeline
    kubectl("delete", "-f", str(POLICY))
    _wait(lambda: not in_force(), "the policy is no longer in force")


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
