"""Tests the selection of warnings from the events of a Pod."""

from typing import Any

import pytest

from initpipeline.plugin.report.pod_events import PodWarning, warnings
from tests.builders import at, stamp


def event(reason: str = "FailedMount", message: str = "no secret", **more: Any) -> dict[str, Any]:
    fields = {"type": "Warning", "reason": reason, "message": message}
    return fields | {"count": 1, "lastTimestamp": stamp(10)} | more


OF_THE_NEW_API: dict[str, Any] = {
    "count": None,
    "lastTimestamp": None,
    "eventTime": f"{stamp(5)[:-1]}.123456Z",
}


@pytest.mark.parametrize(
    ("given", "count", "last"),
    [
        pytest.param(event(count=7), 7, at(10), id="counted"),
        pytest.param(event(count=None), 1, at(10), id="once"),
        pytest.param(event(**OF_THE_NEW_API), 1, at(5.123456), id="of the new API, once"),
        pytest.param(
            event(**OF_THE_NEW_API, series={"count": 3, "lastObservedTime": stamp(20)}),
            3,
            at(20),
            id="of the new API, a series",
        ),
    ],
)
def test_warnings_event_has_count_and_time(given: dict[str, Any], count: int, last: Any) -> None:
    assert warnings([given], "") == (PodWarning("FailedMount", "no secret", count, last),)


@pytest.mark.parametrize(
    ("given", "known"),
    [
        pytest.param(event(type="Normal"), "", id="normal event"),
        pytest.param(event("BackOff", "back-off 10s"), "", id="a back-off"),
        pytest.param(event(), "it waits: no secret", id="message of status"),
        pytest.param(event("Failed", "Error: no file"), '"one": no file', id="the kubelet's Error"),
        pytest.param(event("Failed", "Failed to pull: none"), '"one": none', id="with a prefix"),
    ],
)
def test_warnings_known_or_normal_event_is_omitted(given: dict[str, Any], known: str) -> None:
    assert warnings([given], known) == ()


def test_warnings_several_events_have_newest_of_each_reason_first() -> None:
    events = [
        event("FailedMount", "old", lastTimestamp=stamp(1)),
        event("FailedMount", "new", lastTimestamp=stamp(3)),
        event("Unhealthy", "probe", lastTimestamp=stamp(2)),
    ]
    assert [one.message for one in warnings(events, "")] == ["new", "probe"]


def test_warnings_many_events_are_limited() -> None:
    events = [event(f"Reason{number}", f"message {number}") for number in range(20)]
    assert len(warnings(events, "")) == 4


def test_warnings_message_with_control_characters_is_plain() -> None:
    [found] = warnings([event(message="\x1b[31mno\x1b[0m secret\r\n")], "")
    assert found.message == "no secret"


def test_warnings_event_with_invalid_time_is_omitted() -> None:
    assert warnings([event(lastTimestamp="2030-02-30T00:00:00Z")], "") == ()
