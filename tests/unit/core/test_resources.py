"""The effective resources of a Pod, and of a template without a Pod."""

from typing import Any

import pytest

from initpipeline.api.raw import Raw
from initpipeline.core import resources
from initpipeline.core.resources import MOST_NAMES, effective_resources, pod_level_defaults
from tests.pod_shapes import DISK, GPU, HUGE, SHAPES, Amounts, Shape, box, cpu, sidecar, spec


def counted(spec: Raw, status: Raw | None = None) -> tuple[Amounts, Amounts]:
    """Returns the effective requests and limits. They depend only on some fields of the status."""
    found = effective_resources(spec, status)
    assert found is not None
    assert effective_resources(spec, resources.fields_of_status(status or {})) == found
    return found.requests or {}, found.limits or {}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_each_shape_has_its_effective_resources(shape: Shape) -> None:
    expected = {"requests": shape.requests, "limits": shape.limits}
    found = effective_resources(shape.spec)
    written = found.to_api() if found else {}
    assert written == {kind: amounts for kind, amounts in expected.items() if amounts}


@pytest.mark.parametrize(
    "pod_spec",
    [
        pytest.param(SHAPES["no-resources"].spec, id="no-resources"),
        pytest.param({}, id="no-containers"),
        pytest.param({"containers": [{"name": "app", "resources": None}]}, id="null"),
        pytest.param(
            {"containers": [{"name": "app", "resources": {"limits": None}}]}, id="limits-null"
        ),
        pytest.param(spec(cpu("one", "1"), apps=(cpu("app", "1.2.3"),)), id="not-a-quantity"),
        pytest.param({"containers": [{"name": "app", "resources": {"limits": 1}}]}, id="number"),
        pytest.param({"containers": [{"name": "app", "resources": "a"}]}, id="string"),
    ],
)
def test_pod_without_resources_has_none(pod_spec: Raw) -> None:
    assert effective_resources(pod_spec) is None


@pytest.mark.parametrize(
    ("amount", "written"),
    [pytest.param(2, "2", id="integer"), pytest.param(0.5, "500m", id="number")],
)
def test_quantity_can_be_a_json_number(amount: float, written: str) -> None:
    app = {"name": "app", "resources": {"requests": {"cpu": amount}}}
    assert counted({"containers": [app]}) == ({"cpu": written}, {})


def test_template_and_its_pod_have_equal_resources() -> None:
    template = spec(
        box("one", limits={"cpu": "1"}),
        apps=(box("app", limits={"memory": "1Gi"}),),
        resources={"limits": {"cpu": "2", "memory": "3Gi"}},
    )
    created = spec(
        box("one", {"cpu": "1"}, {"cpu": "1"}),
        apps=(box("app", {"memory": "1Gi"}, {"memory": "1Gi"}),),
        resources={
            "requests": {"cpu": "1", "memory": "1Gi"},
            "limits": {"cpu": "2", "memory": "3Gi"},
        },
    )
    assert effective_resources(template) == effective_resources(created)


def test_resource_names_are_sorted() -> None:
    requests, _ = counted({"containers": [box("app", {"memory": "1Gi", "cpu": "1"})]})
    assert list(requests) == ["cpu", "memory"]


@pytest.mark.parametrize(
    ("requested", "limited", "reported"),
    [
        pytest.param(MOST_NAMES, MOST_NAMES, True, id="as many as the limit"),
        pytest.param(MOST_NAMES + 1, 0, False, id="too many requests"),
        pytest.param(0, MOST_NAMES + 1, False, id="too many limits"),
    ],
)
def test_resources_of_more_names_than_the_limit_are_not_reported(
    requested: int, limited: int, reported: bool
) -> None:
    """The kubelet reports limits that the spec does not have during a resize."""
    requests, limits = (
        {f"example.com/{n}": "1" for n in range(count)} for count in (requested, limited)
    )
    status = {"containerStatuses": [given("app", {}, limits, {})]}
    found = effective_resources({"containers": [box("app", requests)]}, status)
    assert (found is not None) == reported


@pytest.mark.parametrize(
    ("resources", "requests", "limits"),
    [
        pytest.param(
            {"limits": {"cpu": "4"}},
            {"cpu": "2", "memory": "1Gi", HUGE: "4Mi"},
            {HUGE: "4Mi"},
            id="limit",
        ),
        pytest.param(
            {"limits": {"memory": "4Gi", GPU: "1"}},
            {"cpu": "2", "memory": "1Gi", GPU: "1", HUGE: "4Mi"},
            {HUGE: "4Mi"},
            id="limit of a resource that no container requests",
        ),
        pytest.param(
            {"requests": {"cpu": "3"}},
            {"cpu": "2", "memory": "1Gi", HUGE: "4Mi"},
            {HUGE: "4Mi"},
            id="request",
        ),
        pytest.param(
            {"limits": {HUGE: "10Mi"}},
            {"cpu": "2", "memory": "1Gi", HUGE: "10Mi"},
            {HUGE: "4Mi"},
            id="limit of huge pages",
        ),
        pytest.param({"requests": {HUGE: "4Mi"}}, {}, {}, id="request of huge pages"),
        pytest.param(
            {"requests": {HUGE: "4Mi"}, "limits": {HUGE: "4Mi"}},
            {"cpu": "2", "memory": "1Gi", HUGE: "4Mi"},
            {HUGE: "4Mi"},
            id="request and limit of huge pages",
        ),
    ],
)
def test_pod_level_resources_have_defaults_from_the_containers(
    resources: Raw, requests: Amounts, limits: Amounts
) -> None:
    pod_spec = spec(
        box("one", {"cpu": "2"}, {HUGE: "2Mi"}),
        apps=(box("app", {"cpu": "1", "memory": "1Gi", DISK: "1Gi"}, {"cpu": "3", HUGE: "4Mi"}),),
        resources=resources,
    )
    found = pod_level_defaults(pod_spec)
    written = [{name: str(amount) for name, amount in amounts.items()} for amounts in found]
    assert written == [requests, limits]


def test_pod_level_requests_without_any_limit_have_no_defaults() -> None:
    pod_spec = spec(cpu("one", "2"), apps=(cpu("app", "1"),), resources={"requests": {"cpu": "3"}})
    assert pod_level_defaults(pod_spec) == ({}, {})


def given(
    name: str, requests: dict[str, str], limits: dict[str, str], allocated: dict[str, str]
) -> dict[str, Any]:
    """Returns the resource fields of a container status during a resize in place."""
    resources = {"requests": requests, "limits": limits}
    return {"name": name, "resources": resources, "allocatedResources": allocated}


class TestResize:
    """A Pod whose resources are being resized in place (KEP-1287)."""

    APP = box("app", {"cpu": "1"}, {"cpu": "2"})
    PROXY = sidecar(box("proxy", {"cpu": "500m"}))
    SPEC = spec(PROXY, cpu("one", "100m"), apps=(APP,))

    def cpu(self, *conditions: dict[str, str], **status: Any) -> tuple[str, str]:
        """Returns the CPU request and limit."""
        requests, limits = counted(self.SPEC, {"conditions": list(conditions), **status})
        return requests["cpu"], limits["cpu"]

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            pytest.param(
                given("app", {"cpu": "1"}, {"cpu": "2"}, {"cpu": "1"}), "1500m", id="rest"
            ),
            pytest.param(given("app", {"cpu": "3"}, {}, {"cpu": "1"}), "3500m", id="goes-down"),
            pytest.param(given("app", {"cpu": "1"}, {}, {"cpu": "4"}), "4500m", id="allocated"),
            pytest.param(given("app", {"cpu": "10m"}, {}, {"cpu": "10m"}), "1500m", id="goes-up"),
            pytest.param({"name": "app"}, "1500m", id="status-without-resources"),
            pytest.param(given("other", {"cpu": "9"}, {}, {}), "1500m", id="no-such-container"),
        ],
    )
    def test_larger_of_requested_and_allocated_counts(
        self, status: dict[str, Any], expected: str
    ) -> None:
        assert self.cpu(containerStatuses=[status])[0] == expected

    def test_larger_of_two_limits_counts(self) -> None:
        status = given("app", {"cpu": "1"}, {"cpu": "3"}, {})
        assert self.cpu(containerStatuses=[status]) == ("1500m", "3")

    def test_infeasible_resize_does_not_count(self) -> None:
        refused = {"type": "PodResizePending", "reason": "Infeasible"}
        status = given("app", {"cpu": "100m"}, {"cpu": "200m"}, {"cpu": "200m"})
        assert self.cpu(refused, containerStatuses=[status]) == ("700m", "200m")

    def test_deferred_resize_counts(self) -> None:
        deferred = {"type": "PodResizePending", "reason": "Deferred"}
        status = given("app", {"cpu": "100m"}, {"cpu": "200m"}, {"cpu": "200m"})
        assert self.cpu(deferred, containerStatuses=[status]) == ("1500m", "2")

    def test_resize_of_sidecar_counts(self) -> None:
        status = given("proxy", {"cpu": "1"}, {}, {"cpu": "1"})
        assert self.cpu(initContainerStatuses=[status])[0] == "2"

    def test_resize_of_plain_init_container_does_not_count(self) -> None:
        status = given("one", {"cpu": "9"}, {}, {"cpu": "9"})
        assert self.cpu(initContainerStatuses=[status])[0] == "1500m"

    def test_resize_of_pod_level_resources_counts(self) -> None:
        asked = {"requests": {"cpu": "4", HUGE: "2Mi"}, "limits": {"cpu": "5", HUGE: "2Mi"}}
        pod_spec = {**self.SPEC, "resources": asked}
        status = {
            "resources": {"requests": {"cpu": "6"}, "limits": {"cpu": "7"}},
            "allocatedResources": {"cpu": "8", "memory": "1Gi"},
        }
        requests, limits = counted(pod_spec, status)
        assert requests == {"cpu": "8", HUGE: "2Mi"}
        assert limits == {"cpu": "7", HUGE: "2Mi"}

    def test_pod_level_resource_missing_in_status_counts_as_requested(self) -> None:
        refused = {"type": "PodResizePending", "reason": "Infeasible"}
        asked = {"requests": {"cpu": "4", "memory": "1Gi"}, "limits": {"cpu": "5"}}
        status = {"resources": {"requests": {"cpu": "2"}}, "conditions": [refused]}
        requests, limits = counted({**self.SPEC, "resources": asked}, status)
        assert requests == {"cpu": "2", "memory": "1Gi"}
        assert limits == {"cpu": "5"}
