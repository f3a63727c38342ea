"""Documents that msgspec and json encode and decode differently, or not at all."""

import json
import sys
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.core.encoding import DEEPEST, decode, encode

LARGEST = sys.float_info.max
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf")))
    | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner)
    ),
)


class Letter(StrEnum):
    A = "a"


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def depth(value: Any) -> int:
    levels = 0
    while isinstance(value, dict):
        value, levels = value["a"], levels + 1
    return levels


@given(VALUES)
def test_document_of_json_has_its_value(value: Any) -> None:
    assert decode(json.dumps(value).encode()) == value


class TestDecode:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            pytest.param(b"1e400", LARGEST, id="too large for a float"),
            pytest.param(b"-1e400", -LARGEST, id="too small for a float"),
            pytest.param(b"9" * 5000, LARGEST, id="more digits than Python converts"),
            pytest.param(b"-" + b"9" * 5000, -LARGEST, id="more digits, negative"),
            pytest.param(b"9" * 400, int("9" * 400), id="integer of 400 digits"),
            pytest.param(b"-Infinity", -LARGEST, id="number that JSON does not have"),
            pytest.param(b'"\\ud800"', "\ud800", id="lone surrogate"),
            pytest.param(b'"\xed\xa0\x80"', "\ud800", id="encoded lone surrogate"),
            pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="key twice"),
            pytest.param(b'\xef\xbb\xbf{"a":1}', {"a": 1}, id="byte order mark"),
            pytest.param('{"a":1}'.encode("utf-16"), {"a": 1}, id="UTF-16"),
            pytest.param(b'["\\ud800",1e400,1.5,7]', ["\ud800", LARGEST, 1.5, 7], id="several"),
        ],
    )
    def test_unusual_document_is_decoded(self, data: bytes, value: object) -> None:
        assert decode(data) == value

    @pytest.mark.parametrize(
        "data",
        [b"", b"{", b"{}{}", b"[1,]", b"01", b'"\x01"', b'"\xff"', b"<html>", b"'a'"],
        ids=repr,
    )
    def test_other_text_is_an_error(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            decode(data)

    @pytest.mark.parametrize("number", [b"1", b"1e400", b'"\\ud800"'])
    def test_levels_of_a_deep_document_are_limited(self, number: bytes) -> None:
        assert depth(decode(nested(10_000).replace(b"1", number))) == DEEPEST

    def test_values_beside_deep_ones_are_kept(self) -> None:
        deep = nested(10_000)
        document = decode(b'{"x":%b,"y":%b,"z":7}' % (deep, deep))
        depths = (depth(document["x"]), depth(document["y"]))
        assert (depths, document["z"]) == ((DEEPEST - 1, DEEPEST - 1), 7)

    def test_deep_document_without_its_end_is_an_error(self) -> None:
        levels = 10_000
        data = b"[" + b"[" * levels + b"]" * levels + b"," + b"[" * levels
        with pytest.raises(ValueError):
            decode(data)

    def test_document_of_a_hundred_levels_is_whole(self) -> None:
        assert depth(decode(nested(100))) == 100


@given(VALUES)
def test_encoded_value_has_its_value_in_json(value: Any) -> None:
    assert json.loads(encode(value)) == value


@given(VALUES)
def test_encoded_value_is_decoded(value: Any) -> None:
    assert decode(encode(value)) == value


class TestEncode:
    def test_keys_are_sorted(self) -> None:
        assert encode({"b": {"d": 1, "c": 2}, "a": 3}) == b'{"a":3,"b":{"c":2,"d":1}}'

    @pytest.mark.parametrize(
        ("value", "data"),
        [
            pytest.param("\ud800", b'"\\ud800"', id="lone surrogate"),
            pytest.param({"\ud800": 1}, b'{"\\ud800":1}', id="lone surrogate in a key"),
            pytest.param({"b": "\ud800", "a": "é"}, b'{"a":"\\u00e9","b":"\\ud800"}', id="keys"),
            pytest.param({Letter.A: Letter.A}, b'{"a":"a"}', id="enumeration"),
            pytest.param(2**64, b"18446744073709551616", id="integer of 65 bits"),
            pytest.param((1, 2), b"[1,2]", id="tuple"),
        ],
    )
    def test_unusual_value_is_encoded(self, value: object, data: bytes) -> None:
        assert encode(value) == data

    def test_too_deep_value_is_an_error(self) -> None:
        value: list[Any] = []
        for _ in range(10_000):
            value = [value]
        with pytest.raises(RecursionError):
            encode(value)
