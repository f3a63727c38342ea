"""The effective resources of a Pod, or of a template before there is one."""

from typing import Any

import pytest

from initpipeline.api.models import EffectiveResources
from initpipeline.core.resources import effective_resources
from tests.pod_shapes import HUGE, SHAPES, Shape, box, cpu, sidecar, spec


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_shape(shape: Shape) -> None:
    found = effective_resources(shape.spec) or EffectiveResources()
    assert (found.requests, found.limits) == (shape.requests, shape.limits)


@pytest.mark.parametrize(
    "pod_spec",
    [
        pytest.param(SHAPES["nothing-asked"].spec, id="nothing-asked"),
        pytest.param({}, id="no-containers"),
        pytest.param({"containers": [{"name": "app", "resources": None}]}, id="null"),
        pytest.param(
            {"containers": [{"name": "app", "resources": {"limits": None}}]}, id="limits-null"
        ),
        pytest.param(
            spec(cpu("one", "1"), apps=(cpu("app", "1.2.3"),)), id="no-quantity-refused-later"
        ),
    ],
)
def test_none_to_show(pod_spec: dict[str, Any]) -> None:
    assert effective_resources(pod_spec) is None


@pytest.mark.parametrize(
    ("amount", "shown"),
    [pytest.param(2, "2", id="integer"), pytest.param(0.5, "500m", id="number")],
)
def test_a_quantity_may_be_a_json_number(amount: float, shown: str) -> None:
    found = effective_resources({"containers": [box("app", {"cpu": amount})]})  # type: ignore[dict-item]
    assert found is not None
    assert found.requests == {"cpu": shown}


def test_the_api_servers_defaults_change_nothing_when_applied_again() -> None:
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


def test_names_are_sorted() -> None:
    found = effective_resources({"containers": [box("app", {"memory": "1Gi", "cpu": "1"})]})
    assert found is not None
    assert list(found.requests) == ["cpu", "memory"]


def given(
    name: str, requests: dict[str, str], limits: dict[str, str], allocated: dict[str, str]
) -> dict[str, Any]:
    """What a container's status tells of a resize in place."""
    resources = {"requests": requests, "limits": limits}
    return {"name": name, "resources": resources, "allocatedResources": allocated}


class TestResize:
    """Of a Pod whose resources are being changed in place."""

    APP = box("app", {"cpu": "1"}, {"cpu": "2"})
    PROXY = sidecar(box("proxy", {"cpu": "500m"}))
    SPEC = spec(PROXY, cpu("one", "100m"), apps=(APP,))

    def counted(self, *conditions: dict[str, str], **status: Any) -> tuple[str, str]:
        found = effective_resources(self.SPEC, {"conditions": list(conditions), **status})
        assert found is not None
        return found.requests["cpu"], found.limits["cpu"]

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            pytest.param(
                given("app", {"cpu": "1"}, {"cpu": "2"}, {"cpu": "1"}), "1500m", id="rest"
            ),
            pytest.param(given("app", {"cpu": "3"}, {}, {"cpu": "1"}), "3500m", id="goes-down"),
            pytest.param(given("app", {"cpu": "1"}, {}, {"cpu": "4"}), "4500m", id="allocated"),
            pytest.param(given("app", {"cpu": "10m"}, {}, {"cpu": "10m"}), "1500m", id="goes-up"),
            pytest.param({"name": "app"}, "1500m", id="no-word-of-it"),
            pytest.param(given("other", {"cpu": "9"}, {}, {}), "1500m", id="no-such-container"),
        ],
    )
    def test_the_larger_of_wanted_and_given_is_requested(
        self, status: dict[str, Any], expected: str
    ) -> None:
        assert self.counted(containerStatuses=[status])[0] == expected

    def test_the_larger_limit_counts(self) -> None:
        status = given("app", {"cpu": "1"}, {"cpu": "3"}, {})
        assert self.counted(containerStatuses=[status]) == ("1500m", "3")

    def test_a_resize_that_is_infeasible_counts_for_nothing(self) -> None:
        refused = {"type": "PodResizePending", "reason": "Infeasible"}
        status = given("app", {"cpu": "100m"}, {"cpu": "200m"}, {"cpu": "200m"})
        assert self.counted(refused, containerStatuses=[status]) == ("700m", "200m")

    def test_a_resize_that_is_deferred_counts(self) -> None:
        deferred = {"type": "PodResizePending", "reason": "Deferred"}
        status = given("app", {"cpu": "100m"}, {"cpu": "200m"}, {"cpu": "200m"})
        assert self.counted(deferred, containerStatuses=[status]) == ("1500m", "2")

    def test_a_sidecar_is_resized(self) -> None:
        status = given("proxy", {"cpu": "1"}, {}, {"cpu": "1"})
        assert self.counted(initContainerStatuses=[status])[0] == "2"

    def test_an_init_container_that_ends_is_not(self) -> None:
        status = given("one", {"cpu": "9"}, {}, {"cpu": "9"})
        assert self.counted(initContainerStatuses=[status])[0] == "1500m"

    def test_the_pod_as_a_whole_is_resized(self) -> None:
        asked = {"requests": {"cpu": "4", HUGE: "2Mi"}, "limits": {"cpu": "5", HUGE: "2Mi"}}
        pod_spec = {**self.SPEC, "resources": asked}
        status = {
            "resources": {"requests": {"cpu": "6"}, "limits": {"cpu": "7"}},
            "allocatedResources": {"cpu": "8", "memory": "1Gi"},
        }
        found = effective_resources(pod_spec, status)
        assert found is not None
        assert found.requests == {"cpu": "8", HUGE: "2Mi"}
        assert found.limits == {"cpu": "7", HUGE: "2Mi"}
