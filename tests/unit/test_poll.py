from collections.abc import Iterator

import pytest

from tests.poll import PollTimeoutError, poll_until, poll_until_stable


class TestPollUntil:
    def test_true_value_is_returned(self) -> None:
        values = iter([0, None, "", "ready"])
        assert poll_until(lambda: next(values), 60, "ready") == "ready"

    def test_condition_is_checked_before_the_timeout(self) -> None:
        assert poll_until(lambda: True, 0, "true")

    def test_timeout_error_names_the_condition_and_the_last_state(self) -> None:
        message = "^not within 0 s: the Pod is Ready; last state: Pending$"
        with pytest.raises(PollTimeoutError, match=message):
            poll_until(lambda: False, 0, "the Pod is Ready", state=lambda: "Pending")

    def test_timeout_raises_the_given_error(self) -> None:
        with pytest.raises(LookupError, match=r"^not within 0 s: the Pod is Ready$"):
            poll_until(lambda: False, 0, "the Pod is Ready", error=LookupError)

    def test_exception_of_the_condition_ends_the_wait(self) -> None:
        def gone() -> bool:
            raise LookupError("the Pod is gone")

        with pytest.raises(LookupError, match=r"^the Pod is gone$"):
            poll_until(gone, 60, "the Pod is Ready")


class TestPollUntilStable:
    def test_value_that_stops_changing_is_returned(self) -> None:
        def numbers() -> Iterator[int]:
            yield from range(3)
            while True:
                yield 7

        values = numbers()
        assert poll_until_stable(lambda: next(values), 0.1, 60, "requests") == 7

    def test_value_that_keeps_changing_raises(self) -> None:
        values = iter(range(10_000))
        message = r"^not within 0\.1 s: no new requests; last state: \d+$"
        with pytest.raises(PollTimeoutError, match=message):
            poll_until_stable(lambda: next(values), 60, 0.1, "no new requests")
