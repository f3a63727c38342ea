"""Pods and InitPipelines are read from JSON. Absent, null and odd values raise no exception."""

import json
import sys
from array import array
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import pytest

from initpipeline.api.models import INT32_MAX, EffectiveResources
from initpipeline.api.names import (
    NAME_LABEL,
    RERUN_ANNOTATION,
    RERUN_IN_PLACE_ANNOTATION,
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
)
from initpipeline.api.times import LATEST
from initpipeline.core.facts import (
    Container,
    ContainerStatus,
    Facts,
    Pipeline,
    Pod,
    PodCondition,
    RestartRule,
    Terminated,
    UnreadableError,
    field_without_name,
)
from initpipeline.core.template import LARGEST_PACKED
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
        assert container(state={"terminated": end.raw("runtime://1")}).terminated == Terminated(
            137, 9, "OOMKilled", "oh", at(3), at(7), "runtime://1"
        )

    def test_terminated_state_without_fields_is_read(self) -> None:
        found = container(lastState={"terminated": {}}).last_terminated
        assert found == Terminated(0, None, None, None, None, None, "")

    def test_fields_are_read(self) -> None:
        waiting = {"reason": "ErrImagePull", "message": "not found"}
        found = container(
            containerID="runtime://1",
            restartCount=2,
            started=True,
            ready=True,
            state={"waiting": waiting},
            lastState={"terminated": End(1).raw()},
        )
        assert (found.name, found.container_id, found.restart_count) == ("one", "runtime://1", 2)
        assert (found.started, found.ready, found.running) == (True, True, False)
        assert (found.waiting, found.waiting_reason) == (waiting, "ErrImagePull")
        assert (found.terminated, found.last_terminated is None) == (None, False)

    def test_waiting_state_that_is_not_an_object_counts_as_absent(self) -> None:
        found = container(state={"waiting": "ErrImagePull"})
        assert (found.waiting, found.waiting_reason) == (None, "")

    def test_restart_count_leaves_room_for_the_next_restart(self) -> None:
        assert container(restartCount=INT32_MAX).restart_count == INT32_MAX - 1


class TestPodFields:
    """Each field of a v1.Pod that decisions need."""

    RAW: Final = {
        "metadata": {
            "uid": "pod-1",
            "resourceVersion": "7",
            "creationTimestamp": stamp(1),
            "deletionTimestamp": stamp(2),
            "finalizers": ["example.com/backup", 1, "", "example.com/audit"],
            "labels": {NAME_LABEL: "demo"},
            "annotations": {
                RUN_ANNOTATION: "3",
                RERUN_TOKEN_ANNOTATION: "now",
                TEMPLATE_ANNOTATION: "packed",
                RERUN_IN_PLACE_ANNOTATION: "true",
            },
            "ownerReferences": [{"uid": "owner", "controller": True}],
        },
        "spec": {
            "nodeName": "node-1",
            "schedulingGates": [{"name": "quota"}],
            "initContainers": [{"name": "one", "image": "busybox"}],
            "containers": [box("app", {"cpu": "1"})],
        },
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "low on memory",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "PodFailed",
                    "message": "ended",
                    "lastTransitionTime": stamp(3),
                }
            ],
            "initContainerStatuses": [{"name": "one", "restartCount": 4}],
            "containerStatuses": [{"name": "app", "restartCount": 5}],
        },
    }
    BARE: Final = {"metadata": {"uid": "pod-1", "resourceVersion": "7"}}

    @pytest.mark.parametrize(
        ("field", "value", "absent"),
        [
            pytest.param("uid", "pod-1", "pod-1"),
            pytest.param("resource_version", "7", "7"),
            pytest.param("created_at", at(1), None),
            pytest.param("deletion_time", at(2), None),
            pytest.param("finalizers", ("example.com/backup", "example.com/audit"), ()),
            pytest.param("labelled", True, False),
            pytest.param("run", 3, None),
            pytest.param("rerun_token", "now", None),
            pytest.param("template_text", "packed", None),
            pytest.param("rerun_in_place", "true", None),
            pytest.param("owner_uid", "owner", None),
            pytest.param("only_owner_is_pipeline", False, False),
            pytest.param("node_name", "node-1", None),
            pytest.param("scheduling_gated", True, False),
            pytest.param("effective_resources", EffectiveResources(requests={"cpu": "1"}), None),
            pytest.param("phase", "Failed", "Pending"),
            pytest.param("reason", "Evicted", ""),
            pytest.param("message", "low on memory", ""),
            pytest.param(
                "conditions", (PodCondition("Ready", "False", "PodFailed", "ended", at(3)),), ()
            ),
        ],
    )
    def test_field_is_read_and_may_be_absent(self, field: str, value: Any, absent: Any) -> None:
        found, bare = Pod.from_api(self.RAW), Pod.from_api(self.BARE)
        assert (getattr(found, field), getattr(bare, field)) == (value, absent)

    def test_containers_and_statuses_are_read(self) -> None:
        found, bare = Pod.from_api(self.RAW), Pod.from_api(self.BARE)
        assert [(c.name, c.image) for c in found.init_containers] == [("one", "busybox")]
        assert [c.name for c in found.containers] == ["app"]
        assert [(s.name, s.restart_count) for s in found.init_container_statuses] == [("one", 4)]
        assert [(s.name, s.restart_count) for s in found.container_statuses] == [("app", 5)]
        assert (bare.init_containers, bare.containers) == ((), ())
        assert (bare.init_container_statuses, bare.container_statuses) == ((), ())

    OWNER: Final = {
        "apiVersion": "initpipeline.dev/v1alpha1",
        "kind": "InitPipeline",
        "name": "demo",
        "uid": "u",
        "controller": True,
    }

    @pytest.mark.parametrize(
        ("owners", "expected"),
        [
            pytest.param([OWNER], True, id="InitPipeline of the name"),
            pytest.param(
                [{**OWNER, "apiVersion": "initpipeline.dev/v2"}], True, id="other version"
            ),
            pytest.param([{**OWNER, "apiVersion": "example.com/v1"}], False, id="another group"),
            pytest.param([{**OWNER, "apiVersion": None}], False, id="no group"),
            pytest.param([{**OWNER, "kind": "Job"}], False, id="another kind"),
            pytest.param([{**OWNER, "name": "other"}], False, id="another name"),
            pytest.param([{**OWNER, "controller": False}], False, id="no controller"),
            pytest.param([OWNER, {"kind": "Job", "uid": "j"}], False, id="another owner as well"),
            pytest.param([], False, id="no owner"),
        ],
    )
    def test_only_owner_is_recognized(self, owners: list[Any], expected: bool) -> None:
        metadata = {**self.BARE["metadata"], "name": "demo", "ownerReferences": owners}
        assert Pod.from_api({"metadata": metadata}).only_owner_is_pipeline is expected

    def test_null_counts_as_absent(self) -> None:
        nulls = {"spec": None, "status": None}
        metadata = {"labels": None, "annotations": None, "finalizers": None, "nodeName": None}
        raw = {"metadata": {**self.BARE["metadata"], **metadata}, **nulls}
        assert Pod.from_api(raw) == Pod.from_api(self.BARE)

    def test_unreadable_deletion_time_is_the_latest(self) -> None:
        raw = {"metadata": {**self.BARE["metadata"], "deletionTimestamp": "tomorrow"}}
        assert Pod.from_api(raw).deletion_time == LATEST

    @pytest.mark.parametrize(
        ("length", "kept"), [(LARGEST_PACKED, True), (LARGEST_PACKED + 1, False)]
    )
    def test_template_larger_than_any_is_not_kept(self, length: int, kept: bool) -> None:
        text = "x" * length
        raw = {"metadata": {**self.BARE["metadata"], "annotations": {TEMPLATE_ANNOTATION: text}}}
        assert Pod.from_api(raw).template_text == (text if kept else None)

    def test_two_statuses_of_one_name_count_as_the_last(self) -> None:
        """Users can write the status of a Pod. A status without a name is ignored."""
        written = [{"name": "one"}, {"name": "two"}, {}, {"name": "one", "restartCount": 9}]
        found = Pod.from_api({**self.BARE, "status": {"containerStatuses": written}})
        read = [(status.name, status.restart_count) for status in found.container_statuses]
        assert read == [("one", 9), ("two", 0)]


class TestContainer:
    """The containers of a v1.PodSpec."""

    RULE: Final = {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [3]}}

    def read(self, *containers: Any, **spec: Any) -> tuple[Container, ...]:
        raw = {**TestPodFields.BARE, "spec": {"initContainers": list(containers), **spec}}
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
        [app] = Pod.from_api({**TestPodFields.BARE, "spec": spec}).containers
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

    def test_metadata_is_read(self) -> None:
        raw = pipeline().of_generation(3).raw()
        raw["metadata"] |= {"namespace": "team", "name": "db", "uid": "u", "resourceVersion": "7"}
        found = Pipeline.from_api(raw)
        assert (found.namespace, found.name, found.uid) == ("team", "db", "u")
        assert (found.resource_version, found.generation, found.deleting) == ("7", 3, False)
        assert pipeline().deleting().build().deleting is True

    def test_size_is_that_of_the_object_without_status(self) -> None:
        raw = pipeline().raw()
        raw["spec"]["template"]["metadata"] = {"annotations": {"x": "ä" * 500}}
        whole = {"metadata": raw["metadata"], "spec": raw["spec"]}
        written = len(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode())
        assert abs(Pipeline.from_api(raw).size - written) < 40

    @pytest.mark.parametrize(
        ("status", "policies", "known"),
        [
            pytest.param({"observedGeneration": 3}, {}, True, id="of this generation"),
            pytest.param({"observedGeneration": 2}, {}, False, id="of another generation"),
            pytest.param({}, {}, False, id="never observed"),
            pytest.param(
                {"observedGeneration": 3}, {"suspend": True}, False, id="suspended: the last run's"
            ),
            pytest.param(
                {"observedGeneration": 3, "templateHash": "0" * 16},
                {},
                False,
                id="by other rules",
            ),
        ],
    )
    def test_hash_in_status_is_used_if_it_is_of_this_template(
        self, status: dict[str, Any], policies: dict[str, Any], known: bool
    ) -> None:
        of = pipeline().policy(**policies).of_generation(3)
        hash_ = pipeline().edited().build().template_hash
        raw = {**of.raw(), "status": {"templateHash": hash_, **status}}
        assert Pipeline.from_api_unhashed(raw).template_hash == (hash_ if known else "")

    @pytest.mark.parametrize(("number", "readable"), [(INT32_MAX - 1, True), (INT32_MAX, False)])
    def test_run_without_a_next_number_is_unreadable(self, number: int, readable: bool) -> None:
        run = {"number": number, "trigger": "Created", "startTime": stamp(0)}
        raw = {**pipeline().raw(), "status": {"run": run}}
        if readable:
            assert Pipeline.from_api(raw).status.run is not None
        else:
            with pytest.raises(UnreadableError) as caught:
                Pipeline.from_api(raw)
            assert str(caught.value) == (
                "status.run.number: there is no next number for another run"
            )

    @pytest.mark.parametrize("field", ["containers", "initContainers"])
    def test_container_without_a_name_is_named_in_the_error(self, field: str) -> None:
        raw = pipeline().raw()
        raw["spec"]["template"]["spec"][field].append({"image": "x"})
        with pytest.raises(UnreadableError) as caught:
            Pipeline.from_api(raw)
        assert str(caught.value) == f"spec.template.spec.{field}: an item has no name"

    def test_missing_metadata_is_named_in_the_error(self) -> None:
        raw = pipeline().raw()
        del raw["metadata"]["uid"]
        with pytest.raises(UnreadableError) as caught:
            Pipeline.from_api(raw)
        assert str(caught.value) == "not a valid InitPipeline: KeyError: 'uid'"

    def test_too_deep_template_is_named_in_the_error(self) -> None:
        raw = pipeline().raw()
        deep: dict[str, Any] = {}
        for _ in range(100_000):
            deep = {"x": deep}
        raw["spec"]["template"]["spec"]["x"] = deep
        with pytest.raises(UnreadableError) as caught:
            Pipeline.from_api_unhashed(raw)
        assert str(caught.value) == "not a valid InitPipeline: it is nested too deeply"
        while deep:  # Python's own deallocation of it would recurse.
            deep = deep.pop("x")

    @pytest.mark.parametrize(
        "template",
        [
            pytest.param(None, id="nothing"),
            pytest.param({"spec": None}, id="null"),
            pytest.param({"spec": {"containers": None}}, id="no containers"),
            pytest.param({"spec": {"containers": [{"name": "app"}]}}, id="a name"),
        ],
    )
    def test_template_without_unnamed_containers_is_readable(self, template: object) -> None:
        assert field_without_name(template) is None

    def test_spec_that_violates_the_schema_is_unreadable(self) -> None:
        raw = pipeline().policy(backoffLimit=-1).raw()
        with pytest.raises(UnreadableError, match=r"^spec\.backoffLimit: Input"):
            Pipeline.from_api(raw)

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


def test_facts_with_another_version_of_the_pipeline_keep_the_rest() -> None:
    before, newer = pipeline().build(), pipeline().edited().build()
    facts = Facts(before, pod().build(), gone=fresh_pod().build())
    assert facts.with_pipeline(newer) == replace(facts, pipeline=newer)
    assert facts.with_pipeline(before) is facts
