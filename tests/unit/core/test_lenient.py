"""Readers for values of any type and size, which never raise an exception."""

import pytest

from initpipeline.api.names import MAX_IDENTIFIER_LENGTH
from initpipeline.core import lenient


@pytest.mark.parametrize(
    ("value", "number"),
    [
        pytest.param("1", 1, id="the first run"),
        pytest.param("2147483646", 2**31 - 2, id="the largest number with a successor"),
        pytest.param("0", None, id="zero"),
        pytest.param("2147483647", None, id="no successor in 32 bits"),
        pytest.param("9" * 5000, None, id="more digits than Python converts"),
        pytest.param("00000000001", None, id="eleven digits"),
        pytest.param("-1", None, id="negative"),
        pytest.param("٣", None, id="digits of another script"),
        pytest.param("", None, id="empty"),
        pytest.param(7, None, id="an integer"),
    ],
)
def test_number_is_that_of_a_run_or_absent(value: object, number: int | None) -> None:
    assert lenient.run_number(value) == number


@pytest.mark.parametrize(
    ("value", "limited"),
    [
        pytest.param(-7, -7, id="negative"),
        pytest.param(2**31 - 1, 2**31 - 1, id="largest"),
        pytest.param(2**31, 2**31 - 1, id="above"),
        pytest.param(-(2**31), -(2**31), id="smallest"),
        pytest.param(-(2**31) - 1, -(2**31), id="below"),
        pytest.param(True, 0, id="a boolean"),
        pytest.param(1.5, 0, id="a fraction"),
        pytest.param("7", 0, id="text"),
        pytest.param(None, 0, id="null"),
    ],
)
def test_int32_is_within_32_bits(value: object, limited: int) -> None:
    assert lenient.int32(value) == limited
    assert lenient.count(value) == max(limited, 0)


class TestIdentifier:
    def test_string_of_exactly_the_limit_is_unchanged(self) -> None:
        longest = "é" * MAX_IDENTIFIER_LENGTH
        assert lenient.identifier(longest) == longest

    @pytest.mark.parametrize("end", ["x", "y", "\ud800"])
    def test_longer_string_has_the_length_of_the_limit(self, end: str) -> None:
        long = "é" * MAX_IDENTIFIER_LENGTH + end
        shortened = lenient.identifier(long)
        assert len(shortened) == MAX_IDENTIFIER_LENGTH
        assert shortened.startswith("é" * 200)

    def test_strings_with_different_ends_remain_different(self) -> None:
        ends = ("x", "y", "\ud800", "\udfff", "")
        long = {lenient.identifier("é" * 1000 + end) for end in ends}
        assert len(long) == len(ends)

    @pytest.mark.parametrize("value", [None, 7, ["a"], {"a": "b"}])
    def test_value_of_another_type_counts_as_absent(self, value: object) -> None:
        assert lenient.identifier(value) == ""
