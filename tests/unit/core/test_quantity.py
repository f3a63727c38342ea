"""Quantities: parsed exactly, and written in the canonical form of the API server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.core.quantity import Notation, Quantity


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        pytest.param("1500m", "1500m", id="thousandths"),
        pytest.param("1e10", "10e9", id="zero-at-the-end-of-the-exponent"),
        pytest.param(f"1e{'0' * 30}3", "1e3", id="zeros-in-front-of-the-exponent"),
        pytest.param("1e4294967299", "1e3", id="exponent-above-32-bits"),
        pytest.param("1e9223372036854775807", "100e-3", id="largest-exponent"),
        pytest.param("1e-9223372036854775808", "1", id="smallest-exponent"),
        pytest.param(f"1.{'0' * 99}1", "1001m", id="more-digits-than-are-read"),
        pytest.param(f"1.{'0' * 120}", "1", id="zeros-after-the-digits-that-are-read"),
        pytest.param("1.5", "1500m", id="fraction"),
        pytest.param("0.5", "500m", id="fraction-below-one"),
        pytest.param(".5", "500m", id="no-digit-before-the-point"),
        pytest.param("2.", "2", id="no-digit-after-the-point"),
        pytest.param("1000m", "1", id="thousandths-that-make-a-whole"),
        pytest.param("007", "7", id="leading-zeros"),
        pytest.param("+1", "1", id="plus"),
        pytest.param(" 1 ", "1", id="spaces"),
        pytest.param("-1.5", "-1500m", id="negative"),
        pytest.param("0" * 200 + "1", "1", id="many-leading-zeros"),
        pytest.param("0", "0", id="zero"),
        pytest.param("0Gi", "0", id="zero-has-no-suffix"),
        pytest.param("100", "100", id="hundred"),
        pytest.param("1000", "1k", id="thousand"),
        pytest.param("1500k", "1500k", id="suffix-kept-if-the-next-gives-a-fraction"),
        pytest.param("1000k", "1M", id="next-suffix"),
        pytest.param("2G", "2G", id="G"),
        pytest.param("3T", "3T", id="T"),
        pytest.param("4P", "4P", id="P"),
        pytest.param("5E", "5E", id="E"),
        pytest.param("1Ki", "1Ki", id="Ki"),
        pytest.param("1024Mi", "1Gi", id="next-binary-suffix"),
        pytest.param("1.5Gi", "1536Mi", id="binary-fraction"),
        pytest.param("2Ti", "2Ti", id="Ti"),
        pytest.param("3Pi", "3Pi", id="Pi"),
        pytest.param("4Ei", "4Ei", id="Ei"),
        pytest.param("0.5Ki", "512", id="binary-below-1024-is-decimal"),
        pytest.param("0.9765625Ki", "1k", id="binary-below-1024-may-get-a-decimal-suffix"),
        pytest.param("1.0001Ki", "1024103m", id="binary-with-a-fraction-is-decimal"),
        pytest.param("128974848", "128974848", id="bytes-stay-decimal"),
        pytest.param("1e3", "1e3", id="exponent"),
        pytest.param("12E4", "120e3", id="exponent-is-a-multiple-of-three"),
        pytest.param("5e0", "5", id="exponent-zero"),
        pytest.param("15e-1", "1500e-3", id="negative-exponent"),
        pytest.param("1E", "1E", id="E-is-a-suffix-without-digits"),
        pytest.param("1n", "1m", id="below-a-thousandth-is-rounded-up"),
        pytest.param("1500u", "2m", id="millionths-are-rounded-up"),
        pytest.param("1e-999999999", "1e-3", id="least-amount"),
        pytest.param("100000Ei", "9223372036854775807", id="more-than-the-largest-amount"),
        pytest.param("1e999999", "9223372036854775807", id="exponent-too-large-for-any-memory"),
        pytest.param("0." + "3" * 5000, "334m", id="more-digits-than-any-amount-has"),
    ],
)
def test_quantity_is_written_in_canonical_form(written: str, canonical: str) -> None:
    assert str(Quantity.parse(written)) == canonical


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        pytest.param(Quantity(1024**7 * 1000, Notation.BINARY), "1024Ei", id="binary"),
        pytest.param(Quantity(10**24), "1000E", id="decimal"),
    ],
)
def test_amount_beyond_the_largest_suffix_has_that_suffix(quantity: Quantity, text: str) -> None:
    assert str(quantity) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1e9223372036854775808",
        "1e-9223372036854775809",
        " ",
        ".",
        "m",
        "half",
        "1x",
        "1 Gi",
        "1,5",
        "1.2.3",
        "1e",
        "1e1.5",
        "1Kib",
        "--1",
        "\u00a01",
        "٣",
    ],
    ids=lambda text: repr(text[:8]),
)
def test_text_that_is_not_a_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        Quantity.parse(text)


def test_huge_exponent_is_limited_without_computing_the_power() -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        Quantity.parse("1e" + "9" * 5000)


@pytest.mark.parametrize(
    ("length", "kept"), [pytest.param(32, True, id="short"), pytest.param(33, False, id="long")]
)
def test_quantity_of_a_short_text_is_kept_in_memory(length: int, kept: bool) -> None:
    text = "1".zfill(length)
    assert (Quantity.parse(text) is Quantity.parse(text)) is kept
    assert Quantity.parse(text) == Quantity(1000)


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        pytest.param("1Gi", "1G", "2073741824", id="binary-first-but-not-a-multiple-of-1024"),
        pytest.param("1Gi", "1024k", "1049576Ki", id="binary-first"),
        pytest.param("1024k", "1Gi", "1074765824", id="decimal-first"),
        pytest.param("0", "1Gi", "1Gi", id="notation-of-zero-is-ignored"),
        pytest.param("1e3", "1", "1001", id="exponent-first"),
    ],
)
def test_sum_has_the_notation_of_the_first_nonzero_quantity(
    one: str, other: str, total: str
) -> None:
    assert str(Quantity.parse(one) + Quantity.parse(other)) == total


@given(st.integers(min_value=0, max_value=(2**63 - 1) * 1000), st.sampled_from(Notation))
def test_written_quantity_is_parsed_as_the_same_amount(milli: int, notation: Notation) -> None:
    assert Quantity.parse(str(Quantity(milli, notation))).milli == milli
