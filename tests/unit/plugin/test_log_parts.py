"""Tests which logs of a Pod can be read."""

import pytest

from initpipeline.plugin.report import log_parts
from initpipeline.plugin.report.log_parts import Part
from tests.builders import End, PodBuilder, container_id, fresh_pod, running_pod


def titles(parts: list[Part]) -> list[str]:
    return [part.title for part in parts]


def failing() -> PodBuilder:
    """Returns a Pod whose second step has failed twice and waits for a restart."""
    last = End(3, 20, 24, message="no such table")
    pod = fresh_pod().initialized("one")
    return pod.init("two", waiting="CrashLoopBackOff", restarts=1, last=last, id="second")


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        pytest.param(fresh_pod(), [], id="no step has started"),
        pytest.param(
            fresh_pod().init("one", running=True),
            ['init container 1 of 2 "one": running'],
            id="first step runs",
        ),
        pytest.param(
            failing(),
            [
                'init container 1 of 2 "one": done',
                'init container 2 of 2 "two", attempt 2: exited with 3',
            ],
            id="finished and failed steps",
        ),
        pytest.param(
            fresh_pod().sidecar("one", running=True).reversed_statuses(),
            ['sidecar 1 of 2 "one": running'],
            id="sidecar, statuses in another order",
        ),
        pytest.param(fresh_pod().init("one", waiting="ImagePullBackOff"), [], id="no image"),
    ],
)
def test_newest_all_steps_are_in_order(pod: PodBuilder, found: list[str]) -> None:
    assert titles(log_parts.newest(pod.build(), None, [])) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("two", ['init container 2 of 2 "two": done']),
        ("app", ['container "app": running']),
        ("none", []),
    ],
)
def test_newest_named_container_is_the_only_one(name: str, found: list[str]) -> None:
    assert titles(log_parts.newest(running_pod().build(), name, [])) == found


def test_newest_attempt_of_earlier_run_is_omitted() -> None:
    pod = fresh_pod().init("one", running=True, restarts=1).initialized("two").build()
    stale = [container_id("two")]
    assert titles(log_parts.newest(pod, None, stale)) == [
        'init container 1 of 2 "one", attempt 2: running'
    ]


def test_previous_restarted_step_has_last_attempt() -> None:
    pod = fresh_pod().init("one", running=True, restarts=2, last=End(1)).build()
    assert log_parts.previous(pod, None) == [
        Part(
            container="one",
            container_id=container_id("one", 1),
            title='init container 1 of 2 "one", attempt 2: exited with 1',
            previous=True,
            running=False,
            sidecar=False,
            termination_message="",
        )
    ]


def test_newest_waiting_step_has_last_attempt() -> None:
    """It is not also a previous attempt, which would print it twice."""
    last = End(3, message="no such table")
    pod = fresh_pod().init("one", waiting="CrashLoopBackOff", restarts=0, last=last).build()
    assert log_parts.previous(pod, None) == []
    [part] = log_parts.newest(pod, None, [])
    assert (part.running, part.termination_message) == (False, "no such table")


class TestNotPrinted:
    """What ``-f`` prints next."""

    def test_not_printed_attempt_that_ended_between_requests_comes_first(self) -> None:
        pod = fresh_pod().init("one", running=True, restarts=1, last=End(1)).build()
        assert titles(log_parts.not_printed(pod, None, [], [])) == [
            'init container 1 of 2 "one": exited with 1',
            'init container 1 of 2 "one", attempt 2: running',
        ]

    def test_not_printed_omits_printed_attempts(self) -> None:
        pod = fresh_pod().initialized("one").init("two", running=True).build()
        assert titles(log_parts.not_printed(pod, None, [], [container_id("one")])) == [
            'init container 2 of 2 "two": running'
        ]
