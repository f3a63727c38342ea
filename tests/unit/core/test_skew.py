"""Version skew: what differs between a CRD and the models, and what the API server has dropped."""

import copy
from collections.abc import Callable
from typing import Any, Final

import pytest

from initpipeline.api.podtemplate import Schema
from initpipeline.core.skew import Skew, dropped, skew
from tests import libyaml
from tests.installation import CRDS

CRD: Final = libyaml.safe_load((CRDS / "initpipelines.yaml").read_text())
SERVED: Final[Schema] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def changed(change: Callable[[Any, Any], object]) -> Schema:
    """Returns the schema of the CRD after a change of the fields of spec and of status."""
    schema = copy.deepcopy(SERVED)
    fields = schema["properties"]
    change(fields["spec"]["properties"], fields["status"]["properties"])
    return schema


class TestSkew:
    def test_own_crd_does_not_differ(self) -> None:
        assert skew(SERVED) == Skew((), ())

    @pytest.mark.parametrize(
        ("change", "missing"),
        [
            (lambda spec, _: spec.pop("suspend"), "spec.suspend"),
            (
                lambda spec, _: spec["initPolicies"]["items"]["properties"].pop("maxRestarts"),
                "spec.initPolicies[].maxRestarts",
            ),
            (lambda spec, _: spec["rerunPolicy"]["enum"].remove("Never"), "spec.rerunPolicy=Never"),
            (lambda _, status: status["run"]["properties"].pop("cause"), "status.run.cause"),
            (
                lambda _, status: status["history"]["items"]["properties"].pop("failedStep"),
                "status.history[].failedStep",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_field_that_the_crd_lacks_is_missing(
        self, change: Callable[[Any, Any], object], missing: str
    ) -> None:
        assert skew(changed(change)) == Skew((missing,), ())

    @pytest.mark.parametrize(
        ("change", "unknown"),
        [
            (lambda spec, _: spec.update(new={"type": "string"}), "spec.new"),
            (lambda spec, _: spec["rerunPolicy"]["enum"].append("New"), "spec.rerunPolicy=New"),
            (lambda _, status: status["run"]["properties"].update(new={}), "status.run.new"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_field_that_only_the_crd_has_is_unknown(
        self, change: Callable[[Any, Any], object], unknown: str
    ) -> None:
        assert skew(changed(change)) == Skew((), (unknown,))

    def test_schemas_of_kubernetes_are_not_compared(self) -> None:
        """They are those of another version of Kubernetes."""

        def change(spec: Any, status: Any) -> None:
            spec["template"]["properties"]["spec"]["properties"]["new"] = {"type": "string"}
            del spec["template"]["properties"]["spec"]["properties"]["hostUsers"]
            status["initContainerStatuses"]["items"]["properties"]["new"] = {"type": "string"}

        assert skew(changed(change)) == Skew((), ())

    def test_crd_without_a_schema_lacks_everything(self) -> None:
        found = skew({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
        assert {"spec.template", "status.run"} <= set(found.missing)

    def test_crd_with_a_list_of_anything_lacks_the_fields_of_its_items(self) -> None:
        found = skew(changed(lambda _, status: status.update(history={"type": "array"})))
        assert {"status.history[].number", "status.history[].cause"} <= set(found.missing)


class TestDropped:
    STORED: Final = {"run": {"number": 1}, "history": [{"number": 1}], "nodeName": "node-1"}

    @pytest.mark.parametrize(
        ("sent", "paths"),
        [
            ({"nodeName": "node-2"}, []),
            ({"podName": None}, []),
            ({"podName": "demo"}, ["status.podName"]),
            ({"run": {"number": 1, "cause": {"exitCode": 1}}}, ["status.run.cause"]),
            ({"run": {"cause": None}}, []),
            ({"history": [{"number": 1, "reason": "x"}]}, ["status.history[0].reason"]),
            ({"history": []}, []),
            pytest.param({"run": {"number": [1]}}, [], id="list, stored as a number"),
            pytest.param({"nodeName": {"name": "x"}}, [], id="object, stored as a string"),
        ],
        ids=repr,
    )
    def test_fields_of_the_patch_that_are_not_stored_are_dropped(
        self, sent: dict[str, Any], paths: list[str]
    ) -> None:
        assert list(dropped(sent, self.STORED)) == paths
