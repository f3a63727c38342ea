"""Pods are read from JSON. Absent, null and odd values raise no exception."""

from datetime import datetime
from typing import Any, Final

import pytest

from initpipeline.api.models import EffectiveResources
from initpipeline.api.names import (
    NAME_LABEL,
    RERUN_IN_PLACE_ANNOTATION,
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TEMPLATE_HASH_ANNOTATION,
)
from initpipeline.api.times import LATEST
from initpipeline.core.errors import UnreadableError
from initpipeline.core.pod import Pod, PodCondition
from initpipeline.core.template_annotation import LARGEST_PACKED
from tests.builders import PodBuilder, at, fresh_pod, pipeline, pod, silent_pod, stamp
from tests.pod_shapes import box


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


class TestPod:
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
