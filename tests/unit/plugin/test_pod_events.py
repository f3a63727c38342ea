"""What scheduler and kubelet warn of a Pod in events alone."""

from typing import Any

import pytest

from initpipeline.plugin.report.pod_events import PodWarning, warnings
from tests.builders import at, stamp


def event(reason: str = "FailedMount", message: str = "no secret", **more: Any) -> dict[str, Any]:
    said = {"type": "Warning", "reason": reason, "message": message}
    return said | {"count": 1, "lastTimestamp": stamp(10)} | more


OF_THE_NEW_API: dict[str, Any] = {
    "count": None,
    "lastTimestamp": None,
    "eventTime": f"{stamp(5)[:-1]}.123456Z",
}


@pytest.mark.parametrize(
    ("told", "count", "last"),
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
def test_how_often_and_when(told: dict[str, Any], count: int, last: Any) -> None:
    assert warnings([told], "") == (PodWarning("FailedMount", "no secret", count, last),)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        pytest.param(event(type="Normal"), "", id="nothing to be warned of"),
        pytest.param(event("BackOff", "back-off 10s"), "", id="a back-off"),
        pytest.param(event(), "it waits: no secret", id="what status says"),
        pytest.param(event("Failed", "Error: no file"), '"one": no file', id="the kubelet's Error"),
        pytest.param(event("Failed", "Failed to pull: none"), '"one": none', id="with more words"),
    ],
)
def test_what_is_left_out(told: dict[str, Any], known: str) -> None:
    assert warnings([told], known) == ()


def test_the_newest_of_each_reason_comes_first() -> None:
    told = [
        event("FailedMount", "old", lastTimestamp=stamp(1)),
        event("FailedMount", "new", lastTimestamp=stamp(3)),
        event("Unhealthy", "probe", lastTimestamp=stamp(2)),
    ]
    assert [one.message for one in warnings(told, "")] == ["new", "probe"]


def test_they_are_few() -> None:
    told = [event(f"Reason{number}", f"message {number}") for number in range(20)]
    assert len(warnings(told, "")) == 4


def test_event_with_control_characters_is_shown_without() -> None:
    [found] = warnings([event(message="\x1b[31mno\x1b[0m secret\r\n")], "")
    assert found.message == "no secret"


def test_event_with_a_time_that_cannot_be_read_is_left_out() -> None:
    assert warnings([event(lastTimestamp="2030-02-30T00:00:00Z")], "") == ()
