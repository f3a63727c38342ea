"""Which logs there are to read of a Pod."""

import pytest

from initpipeline.plugin.report import log_parts
from initpipeline.plugin.report.log_parts import Part
from tests.builders import End, PodBuilder, container_id, fresh_pod, running_pod


def titles(parts: list[Part]) -> list[str]:
    return [part.title for part in parts]


def failing() -> PodBuilder:
    """Step two has failed twice, and waits to be started again."""
    last = End(3, 20, 24, message="no such table")
    pod = fresh_pod().initialized("one")
    return pod.init("two", waiting="CrashLoopBackOff", restarts=1, last=last, id="second")


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        pytest.param(fresh_pod(), [], id="nothing has started"),
        pytest.param(
            fresh_pod().init("one", running=True),
            ['init container 1 of 2 "one": running'],
            id="the first runs",
        ),
        pytest.param(
            failing(),
            [
                'init container 1 of 2 "one": done',
                'init container 2 of 2 "two", attempt 2: exited with 3',
            ],
            id="finished and failed ones, in order",
        ),
        pytest.param(
            fresh_pod().sidecar("one", running=True).reversed_statuses(),
            ['sidecar 1 of 2 "one": running'],
            id="a sidecar, and a list in another order",
        ),
        pytest.param(
            fresh_pod().init("one", waiting="ImagePullBackOff"), [], id="no image, no log"
        ),
    ],
)
def test_all_steps(pod: PodBuilder, found: list[str]) -> None:
    assert titles(log_parts.present(pod.build(), None, [])) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("two", ['init container 2 of 2 "two": done']),
        ("app", ['container "app": running']),
        ("none", []),
    ],
)
def test_one_container_of_either_kind(name: str, found: list[str]) -> None:
    assert titles(log_parts.present(running_pod().build(), name, [])) == found


def test_what_belongs_to_an_earlier_run_is_left_out() -> None:
    pod = fresh_pod().init("one", running=True, restarts=1).initialized("two").build()
    stale = [container_id("two")]
    assert titles(log_parts.present(pod, None, stale)) == [
        'init container 1 of 2 "one", attempt 2: running'
    ]


def test_the_attempts_before_the_newest() -> None:
    pod = fresh_pod().init("one", running=True, restarts=2, last=End(1)).build()
    assert log_parts.before(pod, None) == [
        Part(
            container="one",
            container_id=container_id("one", 1),
            title='init container 1 of 2 "one", attempt 2: exited with 1',
            previous=True,
            running=False,
            sidecar=False,
            last_words="",
        )
    ]


def test_while_it_waits_the_last_attempt_is_the_newest() -> None:
    """Its container is the one that is shown, so that it is not read twice."""
    last = End(3, message="no such table")
    pod = fresh_pod().init("one", waiting="CrashLoopBackOff", restarts=0, last=last).build()
    assert log_parts.before(pod, None) == []
    [part] = log_parts.present(pod, None, [])
    assert (part.running, part.last_words) == (False, "no such table")


class TestUnseen:
    """What `-f` reads next."""

    def test_an_attempt_that_came_and_went_between_two_looks(self) -> None:
        pod = fresh_pod().init("one", running=True, restarts=1, last=End(1)).build()
        assert titles(log_parts.unseen(pod, None, [], [])) == [
            'init container 1 of 2 "one": exited with 1',
            'init container 1 of 2 "one", attempt 2: running',
        ]

    def test_what_was_read_is_not_read_again(self) -> None:
        pod = fresh_pod().initialized("one").init("two", running=True).build()
        assert titles(log_parts.unseen(pod, None, [], [container_id("one")])) == [
            'init container 2 of 2 "two": running'
        ]
