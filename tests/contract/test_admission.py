"""What a real API server, with the CRD and the admission policy as they are shipped, lets in as an
InitPipeline: what it lets in as a Pod, and that makes sense as a pipeline.

The table is admission.yaml. Each line of it is asked twice, without being created: as a pipeline,
and as a Pod of the same template.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.core import admission as refusals
from tests.contract.admission_table import (
    ACCEPTED,
    AT_THE_DOOR,
    BY_THE_POD,
    REFUSED,
    Case,
    body_of,
    refused,
    template_of,
)
from tests.contract.conftest import Kubectl
from tests.contract.door import Door, Object, minimal, pipeline
from tests.poll import poll_until

POLICY: Final = Path(__file__).parents[2] / "manifests" / "base" / "admission.yaml"
TAKES_EFFECT_SECONDS: Final = 30

PROBE: Final = {"readinessProbe": {"tcpSocket": {"port": 1}}}


def with_(**of_the_step: Any) -> Object:
    """A pipeline whose only init container is so."""
    return body_of({"step": of_the_step})


@pytest.fixture(scope="module")
def door(api: client.ApiClient) -> Door:
    """Nothing is created, so one namespace will do."""
    return Door(api, "default")


@pytest.fixture(scope="module")
def let_in_before(kubectl: Kubectl) -> Iterator[str]:
    """A pipeline that nobody would let in any more."""
    name = "let-in-before"
    kubectl("create", "-f", "-", stdin=pipeline(with_(**PROBE)["spec"]["template"], name))
    yield name
    kubectl("delete", "ipl", name)


@pytest.fixture(scope="module")
def policy(door: Door, kubectl: Kubectl, let_in_before: str) -> Iterator[str]:
    """The admission policy, in force, and then no longer. Returns what was let in before."""

    def in_force() -> bool:
        return door.refusal(with_(**PROBE)) is not None

    kubectl("apply", "-f", str(POLICY))
    _wait(in_force, "the policy does not take effect")
    yield let_in_before
    kubectl("delete", "-f", str(POLICY))
    _wait(lambda: not in_force(), "the policy stays in force")


@pytest.fixture(scope="module")
def runtime_classes(api: client.ApiClient, door: Door) -> Iterator[None]:
    """Those that the table names, once admission knows them. Pods that name others are refused."""
    nodes = client.NodeV1Api(api)
    overhead = {"podFixed": {"cpu": "250m", "memory": "120Mi"}}
    classes = {"sandboxed": {}, "heavy": {"overhead": overhead}}
    for name, more in classes.items():
        nodes.create_runtime_class({"metadata": {"name": name}, "handler": "runc", **more})
        _wait(partial(_known, door, name), f"runtime class {name} is not known")
    yield
    for name in classes:
        nodes.delete_runtime_class(name)


def _known(door: Door, runtime_class: str) -> bool:
    return door.pod_refusal(template_of({"spec": {"runtimeClassName": runtime_class}})) is None


def _wait(condition: Callable[[], bool], failure: str) -> None:
    poll_until(condition, TAKES_EFFECT_SECONDS, failure)


class TestTable:
    def test_it_has_enough_of_both(self) -> None:
        assert len(ACCEPTED) >= 60
        assert len(REFUSED) >= 60

    def test_each_is_refused_by_one(self) -> None:
        refusers = {*AT_THE_DOOR, *BY_THE_POD}
        assert [name for name, row in REFUSED.items() if len(row.keys() & refusers) != 1] == []


@pytest.mark.newest
@pytest.mark.usefixtures("policy", "runtime_classes")
class TestAccepted:
    @pytest.mark.parametrize("row", ACCEPTED.values(), ids=ACCEPTED)
    def test_as_a_pod_so_as_a_pipeline(self, door: Door, row: Object) -> None:
        assert door.pod_refusal(template_of(row)) is None
        assert door.refusal(body_of(row)) is None


@pytest.mark.usefixtures("policy")
class TestRefused:
    @refused(*AT_THE_DOOR)
    def test_at_the_door(self, door: Door, case: Case) -> None:
        refusal = door.refusal(case.body)
        assert refusal is not None
        assert case.message in refusal.message
        assert ("ValidatingAdmissionPolicy" in refusal.message) is (case.by == "policy")

    @refused(*BY_THE_POD)
    def test_when_the_pod_is_created(self, door: Door, case: Case) -> None:
        assert door.refusal(case.body) is None
        answer = door.pod_refusal(case.template)
        assert answer is not None
        assert case.message in answer.message
        meant = refusals.classify(answer.code, answer.status)
        assert meant is not None
        assert meant.reason == case.by

    def test_in_the_words_of_kubectl(self, kubectl: Kubectl) -> None:
        with pytest.raises(CalledProcessError) as refused:
            kubectl("apply", "-f", "-", stdin=with_(**PROBE))
        assert (
            "spec.template.spec.initContainers[0].readinessProbe: Forbidden: "
            "may not be set for init containers without restartPolicy=Always"
        ) in refused.value.stderr

    def test_with_more_to_say_than_a_message_may_hold(self, door: Door) -> None:
        steps = [{"name": f"step-{number}", "image": "i", **PROBE} for number in range(100)]
        refusal = door.refusal(body_of({"spec": {"initContainers": steps}}))
        assert refusal is not None
        assert refusal.message.endswith("Invalid value: has too many errors to list")


class TestAChange:
    """Of what is there already."""

    def patch(self, kubectl: Kubectl, name: str, change: Object, *options: str) -> str:
        patch = json.dumps(change)
        return kubectl("patch", "ipl", name, "--type=merge", "-p", patch, *options)

    @pytest.mark.usefixtures("policy")
    def test_to_the_worse_is_refused(self, kubectl: Kubectl, namespace: str) -> None:
        kubectl("-n", namespace, "create", "-f", "-", stdin=pipeline(minimal()))
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
                id="mended",
            ),
        ],
    )
    def test_of_what_was_let_in_before(
        self, kubectl: Kubectl, policy: str, change: Object, options: tuple[str, ...]
    ) -> None:
        self.patch(kubectl, policy, change, "--dry-run=server", *options)

    def test_of_its_spec_is_judged(self, kubectl: Kubectl, policy: str) -> None:
        with pytest.raises(CalledProcessError) as refused:
            self.patch(kubectl, policy, {"spec": {"backoffLimit": 1}}, "--dry-run=server")
        assert "readinessProbe: Forbidden" in refused.value.stderr
