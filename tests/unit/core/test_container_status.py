"""The status of a container is read from JSON. Absent, null and odd values raise no exception."""

from typing import Any

import pytest

from initpipeline.api.models import INT32_MAX
from initpipeline.core.container_status import ContainerStatus, Terminated
from tests.builders import NEVER, End, at, stamp


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


def test_reasons_have_no_control_characters() -> None:
    raw = {"terminated": {"exitCode": 1, "reason": "\x1b[31mError\x1b[0m"}}
    ended = Terminated.from_api(raw)
    assert ended is not None
    assert ended.reason == "Error"
