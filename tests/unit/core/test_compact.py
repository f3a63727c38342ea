"""Compacted objects: they are smaller, and the same values are read from them."""

from typing import Any

import pytest

from initpipeline.api.raw import Raw
from initpipeline.core.compact import compact
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from tests.builders import pipeline, running_pod
from tests.pod_shapes import OVERHEAD, box

MANAGED = [{"manager": "kubectl", "fieldsV1": {f"f:{n}": {} for n in range(1000)}}]
CONTAINER: Raw = {
    **box("app", {"cpu": "1"}, {"memory": "1Gi"}),
    "env": [{"name": f"N{n}", "value": "x" * 100} for n in range(100)],
    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
    "restartPolicy": "OnFailure",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
    "startupProbe": {"tcpSocket": {"port": 80}},
}


def owned(raw: Raw) -> Raw:
    """Returns the object with managedFields."""
    return {**raw, "metadata": {**raw["metadata"], "managedFields": MANAGED}}


class TestPod:
    RAW = owned(
        running_pod()
        .restarts("Never")
        .with_spec(
            containers=[CONTAINER],
            initContainers=[{**CONTAINER, "name": "one"}, {**CONTAINER, "name": "two"}],
            overhead=OVERHEAD,
            resources={"requests": {"cpu": "3"}},
            schedulingGates=[{"name": "example.com/gate"}],
            volumes=[{"name": "data", "emptyDir": {}}],
        )
        .raw()
    )

    def test_same_values_are_read(self) -> None:
        assert Pod.from_api(compact(self.RAW)) == Pod.from_api(self.RAW)

    def test_other_fields_are_left_out(self) -> None:
        small = compact(self.RAW)
        assert "volumes" not in small["spec"]
        assert "env" not in small["spec"]["containers"][0]
        assert "managedFields" not in small["metadata"]
        assert small["status"] == self.RAW["status"]

    def test_pod_without_init_containers_is_read(self) -> None:
        raw = {**self.RAW, "spec": {"containers": [CONTAINER]}}
        assert Pod.from_api(compact(raw)) == Pod.from_api(raw)


class TestPipeline:
    RAW = owned(pipeline().policy(backoffLimit=3).raw())

    def test_same_values_are_read(self) -> None:
        read, whole = Pipeline.from_api(compact(self.RAW)), Pipeline.from_api(self.RAW)
        without = Pipeline.from_api(pipeline().policy(backoffLimit=3).raw())
        assert (read.template, read.template_hash) == (whole.template, whole.template_hash)
        assert read.policies == whole.policies
        assert read.size == whole.size > without.size + 10_000, "managedFields are stored, too"

    def test_template_is_compressed(self) -> None:
        template = {"spec": {**pipeline().template["spec"], "containers": [CONTAINER]}}
        small = compact(pipeline().with_template(template).raw())
        assert small["spec"]["template"] is None
        assert len(small["compact"]["template"]) < 1000

    @pytest.mark.parametrize("field", ["containers", "initContainers"])
    def test_container_without_a_name_is_unreadable(self, field: str) -> None:
        spec = {**pipeline().template["spec"], field: [{"image": "nginx"}]}
        raw = owned(pipeline().with_template({"spec": spec}).raw())
        assert "managedFields" not in compact(raw)["metadata"]
        for version in (raw, compact(raw)):
            with pytest.raises(UnreadableError, match=f"{field}: an item has no name"):
                Pipeline.from_api(version)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            {"metadata": {"name": "x", "managedFields": MANAGED}},
            {"metadata": {"name": "x"}},
            id="PartialObjectMetadata",
        ),
        pytest.param({"kind": "Status"}, {"kind": "Status"}, id="Status"),
        pytest.param({"spec": 1, "metadata": 2}, {"spec": 1, "metadata": {}}, id="malformed"),
    ],
)
def test_other_object_loses_only_its_managed_fields(raw: Any, expected: Any) -> None:
    assert compact(raw) == expected
