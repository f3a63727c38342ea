"""Pods and InitPipelines are read from JSON. Absent, null and odd values raise no exception."""

import json
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from initpipeline.api.models import EffectiveResources
from initpipeline.api.names import (
    NAME_LABEL,
    RERUN_ANNOTATION,
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
)
from initpipeline.core.facts import (
    ContainerStatus,
    Pipeline,
    Pod,
    RestartRule,
    Terminated,
    UnreadableError,
)
from tests.builders import NEVER, End, PodBuilder, at, fresh_pod, pipeline, pod, silent_pod, stamp
from tests.pod_shapes import box


def rules_of(exit_codes: dict[str, Any]) -> tuple[RestartRule, ...]:
    found = pod().app().raw()
    rule = {"action": "Restart", "exitCodes": exit_codes}
    found["spec"]["containers"][0]["restartPolicyRules"] = [rule]
    return Pod.from_api(found).containers[0].restart_rules


def container(**raw: Any) -> ContainerStatus:
    return ContainerStatus.from_api({"name": "one", **raw})


class TestContainerStatus:
    def test_status_with_only_a_name_has_no_state(self) -> None:
        status = container()
        assert (status.container_id, status.restart_count, status.started) == ("", 0, False)
        assert (status.waiting, status.running, status.terminated) == (None, False, None)
        assert not status.ever_started

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            pytest.param({}, None, id="no state"),
            pytest.param({"state": None}, None, id="state null"),
            pytest.param({"state": {"waiting": {"reason": "x"}}}, None, id="waiting"),
            pytest.param({"state": {"running": {"startedAt": stamp(5)}}}, at(5), id="running"),
            pytest.param({"state": {"terminated": End(0, 5, 8).raw()}}, at(5), id="terminated"),
            pytest.param(
                {"state": {"terminated": End(128, NEVER, 8, "StartError").raw()}},
                at(8),
                id="could not be started: time of the attempt",
            ),
            pytest.param(
                {"state": {"terminated": {"exitCode": 137, "startedAt": None}}},
                None,
                id="terminated, never located: startedAt null",
            ),
        ],
    )
    def test_started_at_is_that_of_the_current_state(self, raw: Any, expected: Any) -> None:
        assert container(**raw).started_at == expected

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            pytest.param(
                {"state": {"waiting": {"reason": "PodInitializing"}}}, False, id="waiting"
            ),
            pytest.param({"state": {"running": {"startedAt": stamp(0)}}}, True, id="running"),
            pytest.param({"state": {"terminated": End(1).raw()}}, True, id="terminated"),
            pytest.param(
                {"state": {"terminated": End(128, NEVER, 8, "StartError").raw()}},
                True,
                id="could not be started, so it terminated",
            ),
            pytest.param({"restartCount": 1}, True, id="restarted"),
            pytest.param({"lastState": {"terminated": End(1).raw()}}, True, id="terminated before"),
            pytest.param(
                {"state": {"terminated": End(137, None, None).raw()}},
                False,
                id="not found by the kubelet when it failed the Pod",
            ),
        ],
    )
    def test_container_with_any_trace_of_a_start_has_ever_started(
        self, raw: Any, expected: bool
    ) -> None:
        assert container(**raw).ever_started is expected

    def test_null_started_is_false(self) -> None:
        assert container(started=None).started is False

    def test_terminated_state_is_read(self) -> None:
        end = End(137, 3, 7, reason="OOMKilled", message="oh", signal=9)
        assert container(state={"terminated": end.raw()}).terminated == Terminated(
            137, 9, "OOMKilled", "oh", at(3), at(7)
        )


class TestPod:
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

    def test_new_pod_without_status_is_pending(self) -> None:
        raw = {"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {}}
        found = Pod.from_api(raw)
        assert (found.uid, found.phase, found.owner_uid, found.run) == ("u", "Pending", None, None)
        assert found.created_at is None

    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            pytest.param(None, None, id="none"),
            pytest.param({RUN_ANNOTATION: "12"}, 12, id="a number"),
            pytest.param({RUN_ANNOTATION: "twelve"}, None, id="no number"),
            pytest.param({RUN_ANNOTATION: ""}, None, id="empty"),
        ],
    )
    def test_run_is_read_from_the_annotation(self, annotations: Any, expected: int | None) -> None:
        raw = pod().raw()
        raw["metadata"]["annotations"] = annotations
        assert Pod.from_api(raw).run == expected

    @pytest.mark.parametrize(
        ("owners", "expected"),
        [
            pytest.param(None, None, id="no owner"),
            pytest.param([{"uid": "a"}], None, id="an owner that is not the controller"),
            pytest.param([{"uid": "a"}, {"uid": "b", "controller": True}], "b", id="controller"),
        ],
    )
    def test_owner_is_the_controller(self, owners: Any, expected: str | None) -> None:
        raw = pod().raw()
        raw["metadata"]["ownerReferences"] = owners
        assert Pod.from_api(raw).owner_uid == expected

    def test_init_container_with_restart_policy_always_is_a_sidecar(self) -> None:
        found = pod().init("a").sidecar("s").build().init_containers
        assert [(c.name, c.sidecar) for c in found] == [("a", False), ("s", True)]

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

    @pytest.mark.parametrize("labelled", [True, False])
    def test_label_and_version_are_read(self, labelled: bool) -> None:
        raw = pod().raw()
        raw["metadata"]["resourceVersion"] = "7"
        raw["metadata"]["labels"] = {NAME_LABEL: "demo"} if labelled else {}
        found = Pod.from_api(raw)
        assert (found.labelled, found.resource_version) == (labelled, "7")

    def test_unreadable_pod_is_named_in_the_error(self) -> None:
        with pytest.raises(UnreadableError, match="not a valid Pod"):
            Pod.from_api({"metadata": {}})

    def test_restart_rule_takes_no_more_memory_than_its_text(self) -> None:
        codes = list(range(1000, 1255))
        (rule,) = rules_of({"operator": "In", "values": codes})
        assert sys.getsizeof(rule.exit_codes) < len(json.dumps(codes))

    def test_only_conditions_that_decisions_need_are_kept(self) -> None:
        found = pod().condition("Ready").condition("example.com/gate").raw()
        found["status"]["conditions"].append({"type": ["odd"]})
        assert [condition.type for condition in Pod.from_api(found).conditions] == ["Ready"]

    def test_false_condition_is_not_true(self) -> None:
        found = pod().condition("Ready", "False").build()
        assert not found.has_condition("Ready")
        assert not found.has_condition("DisruptionTarget")

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            pytest.param(
                silent_pod(created=5), at(5), id="created: the scheduler has not reported"
            ),
            pytest.param(
                silent_pod().condition("PodScheduled", "False", since=6),
                None,
                id="unschedulable",
            ),
            pytest.param(
                silent_pod().node("n").condition("PodScheduled", since=6),
                at(6),
                id="scheduled: the kubelet has not reported",
            ),
            pytest.param(fresh_pod(), None, id="the kubelet has reported"),
            pytest.param(silent_pod().phase("Failed"), None, id="failed without a node"),
            pytest.param(silent_pod().deleting(), None, id="being deleted"),
        ],
    )
    def test_silent_since_is_the_last_report(
        self, found: PodBuilder, expected: datetime | None
    ) -> None:
        assert found.build().silent_since == expected

    def test_pod_with_deletion_timestamp_is_deleting(self) -> None:
        assert not pod().build().deleting
        assert pod().deleting().build().deleting


class TestPodAnnotations:
    """What the operator has recorded on the Pod. Users and webhooks can change it."""

    def read(self, annotations: dict[str, str]) -> Pod:
        raw = pod().raw()
        raw["metadata"]["annotations"] = annotations
        return Pod.from_api(raw)

    def test_hash_by_the_present_rules_is_read(self) -> None:
        hash_ = pipeline().build().template_hash
        assert self.read({TEMPLATE_HASH_ANNOTATION: hash_}).template_hash == hash_

    @pytest.mark.parametrize("hash_", ["", "x", "0" * 16, "x" * 100_000])
    def test_other_hash_counts_as_absent(self, hash_: str) -> None:
        assert self.read({TEMPLATE_HASH_ANNOTATION: hash_}).template_hash is None

    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            pytest.param({}, None, id="absent"),
            pytest.param({RERUN_TOKEN_ANNOTATION: ""}, "", id="no token"),
            pytest.param({RERUN_TOKEN_ANNOTATION: "now"}, "now", id="a token"),
            pytest.param({RERUN_TOKEN_ANNOTATION: "x" * 254}, None, id="longer than any token"),
        ],
    )
    def test_token_is_read(self, annotations: dict[str, str], expected: str | None) -> None:
        assert self.read(annotations).rerun_token == expected


class TestPipeline:
    def test_hash_ignores_the_order_of_keys(self) -> None:
        one = pipeline().with_template({"metadata": {"a": 1, "b": 2}, "spec": {}}).build()
        other = pipeline().with_template({"spec": {}, "metadata": {"b": 2, "a": 1}}).build()
        assert one.template_hash == other.template_hash

    def test_hash_depends_on_the_order_of_init_containers(self) -> None:
        one, other = pipeline().inits("a", "b").build(), pipeline().inits("b", "a").build()
        assert one.template_hash != other.template_hash

    def test_template_is_returned_unchanged(self) -> None:
        template = {"spec": {"initContainers": [{"name": "ä", "image": "i"}]}}
        assert pipeline().with_template(template).build().template == template

    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            pytest.param(None, None, id="no annotations"),
            pytest.param({RERUN_ANNOTATION: ""}, None, id="an empty token"),
            pytest.param({RERUN_ANNOTATION: "now"}, "now", id="a token"),
        ],
    )
    def test_rerun_token_is_read_from_the_annotation(
        self, annotations: Any, expected: str | None
    ) -> None:
        raw = pipeline().raw()
        raw["metadata"]["annotations"] = annotations
        assert Pipeline.from_api(raw).rerun_token == expected

    def test_answer_to_a_status_write_has_its_status_and_version(self) -> None:
        before = pipeline().build()
        raw = pipeline().raw()
        raw["metadata"]["resourceVersion"] = "77"
        raw["status"] = {"rerunCount": 2}
        answer = Pipeline.from_api_unhashed(raw, before)
        assert (answer.resource_version, answer.status.rerun_count) == ("77", 2)
        assert answer == replace(before, resource_version="77", status=answer.status)

    def test_template_of_an_answer_is_not_read_again(self) -> None:
        before = pipeline().build()
        raw = pipeline().raw()
        del raw["spec"]["template"]
        assert Pipeline.from_api_unhashed(raw, before).template == before.template

    def test_template_of_another_generation_is_read(self) -> None:
        before = pipeline().build()
        raw = pipeline().edited().of_generation(before.generation + 1).raw()
        answer = Pipeline.from_api_unhashed(raw, before)
        assert answer.template != before.template
        assert answer.hashed().template_hash != before.template_hash

    def test_unknown_status_fields_are_ignored(self) -> None:
        raw = pipeline().raw()
        raw["status"] = {"fromTheFuture": 1, "rerunCount": 2}
        assert Pipeline.from_api(raw).status.rerun_count == 2

    def test_status_that_violates_the_schema_is_unreadable(self) -> None:
        raw = pipeline().raw()
        raw["status"] = {"rerunCount": -1}
        with pytest.raises(UnreadableError, match=r"^status\.rerunCount: Input"):
            Pipeline.from_api(raw)


def test_reasons_have_no_control_characters() -> None:
    raw = {"terminated": {"exitCode": 1, "reason": "\x1b[31mError\x1b[0m"}}
    ended = Terminated.from_api(raw)
    assert ended is not None
    assert ended.reason == "Error"
