"""The containers of a v1.PodSpec are read from JSON. Absent, null and odd values raise no
exception."""

import json
import sys
from array import array
from typing import Any, Final

import pytest

from initpipeline.api.models import EffectiveResources
from initpipeline.core.containers import Container, RestartRule
from initpipeline.core.pod import Pod
from tests.builders import fresh_pod, pod
from tests.pod_shapes import box

BARE: Final = {"metadata": {"uid": "u", "resourceVersion": "1"}}


def rules_of(exit_codes: dict[str, Any]) -> tuple[RestartRule, ...]:
    found = pod().app().raw()
    rule = {"action": "Restart", "exitCodes": exit_codes}
    found["spec"]["containers"][0]["restartPolicyRules"] = [rule]
    return Pod.from_api(found).containers[0].restart_rules


class TestContainer:
    """The containers of a v1.PodSpec."""

    RULE: Final = {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [3]}}

    def read(self, *containers: Any, **spec: Any) -> tuple[Container, ...]:
        raw = {**BARE, "spec": {"initContainers": list(containers), **spec}}
        return Pod.from_api(raw).init_containers

    def test_fields_are_read(self) -> None:
        raw = {
            "name": "one",
            "image": "busybox",
            "restartPolicy": "Always",
            "startupProbe": {"tcpSocket": {"port": 80}},
            "restartPolicyRules": [self.RULE],
            "resizePolicy": [
                {"resourceName": "cpu", "restartPolicy": "RestartContainer"},
                {"resourceName": "memory", "restartPolicy": "NotRequired"},
            ],
            "resources": {
                "requests": {"memory": "1Gi", "cpu": "1"},
                "limits": {"cpu": 2, "memory": "1Gi"},
            },
        }
        assert self.read(raw) == (
            Container(
                name="one",
                image="busybox",
                sidecar=True,
                startup_probe=True,
                restart_policy="Always",
                restart_rules=(RestartRule("Restart", True, array("i", [3]).tobytes()),),
                resize_restarts=(("requests.cpu", "1"), ("limits.cpu", "2")),
            ),
        )

    def test_container_without_fields_is_read(self) -> None:
        assert self.read({}) == (Container("", "", False, False, "Always", (), ()),)

    def test_null_counts_as_absent(self) -> None:
        resized = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
        absent = {"restartPolicyRules": None, "resizePolicy": resized, "startupProbe": None}
        for resources in (None, {"requests": None}):
            [found] = self.read({"name": "one", **absent, "resources": resources})
            assert found == Container("one", "", False, False, "Always", (), ())

    def test_container_without_restart_policy_has_that_of_the_pod(self) -> None:
        own, other = self.read(
            {"name": "own", "restartPolicy": "Never"}, {"name": "other"}, restartPolicy="OnFailure"
        )
        assert (own.restart_policy, other.restart_policy) == ("Never", "OnFailure")

    def test_app_container_with_restart_policy_always_is_not_a_sidecar(self) -> None:
        spec = {"containers": [{"name": "app", "restartPolicy": "Always"}]}
        [app] = Pod.from_api({**BARE, "spec": spec}).containers
        assert not app.sidecar

    def test_two_containers_of_one_name_count_as_the_last(self) -> None:
        """A template is not validated before the Pod is created."""
        names = [{"name": "one"}, {"name": "two"}, {"name": "one", "image": "last"}]
        assert [(c.name, c.image) for c in self.read(*names)] == [("one", "last"), ("two", "")]

    def test_image_is_limited(self) -> None:
        [found] = self.read({"name": "one", "image": "x" * 5000})
        assert found.image == "x" * 1024

    @pytest.mark.parametrize(
        ("rule", "action"),
        [
            pytest.param({}, "", id="nothing"),
            pytest.param({"action": "Restart"}, "", id="no exit codes"),
            pytest.param({"action": "Restart", "exitCodes": None}, "", id="null"),
            pytest.param(
                {"action": "Restart", "exitCodes": {"operator": "In", "values": None}},
                "",
                id="In nothing",
            ),
            pytest.param(
                {"exitCodes": {"operator": "In", "values": [3]}}, "", id="a code, without action"
            ),
        ],
    )
    def test_incomplete_rule_has_no_effect(self, rule: Any, action: str) -> None:
        """The API server refuses such a rule."""
        [found] = self.read({"name": "one", "restartPolicyRules": [rule]}, restartPolicy="Never")
        assert found.after_exit(3) == action

    def test_init_container_with_restart_policy_always_is_a_sidecar(self) -> None:
        found = pod().init("a").sidecar("s").build().init_containers
        assert [(c.name, c.sidecar) for c in found] == [("a", False), ("s", True)]


class TestRestarts:
    @pytest.mark.parametrize(
        ("operator", "values", "matching"),
        [
            pytest.param("In", [0, 3, 70000], [0, 3, 70000], id="In"),
            pytest.param("In", [-1], [-1], id="In a negative code"),
            pytest.param("In", [], [], id="In no code"),
            pytest.param("NotIn", [0, 3], [-1, 1, 255, 70000], id="NotIn"),
            pytest.param("NotIn", [], [-1, 0, 1, 3, 255, 70000], id="NotIn no code"),
        ],
    )
    def test_restart_rule_matches_its_exit_codes(
        self, operator: str, values: list[int], matching: list[int]
    ) -> None:
        (rule,) = rules_of({"operator": operator, "values": values})
        assert [code for code in (-1, 0, 1, 3, 255, 70000) if rule.matches(code)] == matching

    @pytest.mark.parametrize(
        ("policy", "exit_code", "action"),
        [
            pytest.param("Always", 0, "Restart", id="Always after success"),
            pytest.param("OnFailure", 0, "", id="OnFailure after success"),
            pytest.param("OnFailure", 1, "Restart", id="OnFailure after a failure"),
            pytest.param("Never", 1, "", id="Never after a failure"),
        ],
    )
    def test_restart_policy_decides_if_no_rule_matches(
        self, policy: str, exit_code: int, action: str
    ) -> None:
        [app] = pod().app().restarts(policy).build().containers
        assert app.after_exit(exit_code) == action

    def test_restart_rule_takes_no_more_memory_than_its_text(self) -> None:
        codes = list(range(1000, 1255))
        (rule,) = rules_of({"operator": "In", "values": codes})
        assert sys.getsizeof(rule.exit_codes) < len(json.dumps(codes))


class TestPodSpec:
    def test_effective_resources_include_a_resize_in_place(self) -> None:
        raw = fresh_pod().with_spec(containers=[box("app", {"cpu": "1"})]).raw()
        given = {"name": "app", "resources": {"requests": {"cpu": "2"}}}
        raw["status"]["containerStatuses"] = [given]
        counted = Pod.from_api(raw).effective_resources
        assert counted == EffectiveResources(requests={"cpu": "2"})

    def test_pods_of_one_spec_share_their_containers(self) -> None:
        one, other = pod().app().build(), pod().app().of_run(2).node("other").build()
        assert one.containers is other.containers
        assert one.init_containers is other.init_containers

    def test_containers_of_another_spec_differ(self) -> None:
        found = pod().app().raw()
        one = Pod.from_api(found)
        found["spec"]["containers"][0]["image"] = "other"
        assert [c.image for c in Pod.from_api(found).containers] == ["other"]
        assert one.containers != Pod.from_api(found).containers

    def test_large_spec_is_not_kept_in_memory(self) -> None:
        found = pod().app().raw()
        found["spec"]["containers"][0]["image"] = "x" * 5000
        one, other = Pod.from_api(found), Pod.from_api(found)
        assert one.containers == other.containers
        assert one.containers is not other.containers

    def test_effective_resources_follow_the_status_of_the_same_spec(self) -> None:
        found = pod().app().with_spec(containers=[box("app", {"cpu": "1"})]).raw()
        Pod.from_api(found)
        given = {"name": "app", "resources": {"requests": {"cpu": "2"}}}
        found["status"]["containerStatuses"] = [given]
        read = Pod.from_api(found).effective_resources
        assert read is not None
        assert read.requests == {"cpu": "2"}
