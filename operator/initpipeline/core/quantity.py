"""Resource quantities of the Kubernetes API: 100m, 1.5, 128Mi, 1e3.

The rules are those of k8s.io/apimachinery's resource.Quantity. The official client has a parser,
but it loses the notation, which the sum of two quantities needs.

Users write quantities, so parsing takes time in proportion to the length of any text: the regular
expression does not backtrack, and no number larger than the largest quantity is computed.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

# Possessive quantifiers do not backtrack, so each character is read once.
_SYNTAX: Final = re.compile(
    r"([+-]?)([0-9]*+)(?:\.([0-9]*+))?(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?)([0-9]++))?"
)
_SPACES: Final = " \t\n\v\f\r"
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("m", "", "k", "M", "G", "T", "P", "E")
_POWERS: Final = {suffix: 3 * power for power, suffix in enumerate(("n", "u", *_DECIMAL), start=-3)}
"""The power of ten of each decimal suffix."""

_MOST: Final = 2**63 - 1
_DIGITS: Final = 100
"""The number of digits that are read. It exceeds the digits of the largest amount. If any later
digit is not 0, the amount is rounded up."""


class Notation(Enum):
    """The notation of an amount: powers of ten, powers of two, or an exponent."""

    DECIMAL = auto()
    BINARY = auto()
    EXPONENT = auto()


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount in thousandths. The API server rounds a Pod's resources up to thousandths."""

    milli: int
    """The amount in thousandths."""
    notation: Notation = Notation.DECIMAL

    @staticmethod
    def parse(text: str) -> "Quantity":
        """Returns the quantity. Amounts are limited to the range -(2^63 - 1) to 2^63 - 1.

        Raises ValueError if the text is not a quantity.
        """
        return _kept(text) if len(text) <= _SHORT else _parse(text)

    def __add__(self, other: "Quantity") -> "Quantity":
        """Returns the sum, in this quantity's notation, or in the other's if this one is zero."""
        return Quantity(self.milli + other.milli, (self if self.milli else other).notation)

    def __str__(self) -> str:
        """Returns the canonical form: the largest suffix for which the number is an integer."""
        if self.milli == 0:
            return "0"
        whole, rest = divmod(self.milli, 1000)
        if self.notation is Notation.BINARY and not rest and abs(whole) >= 1024:
            number, power = _reduced(whole, 1024, len(_BINARY) - 1)
            return f"{number}{_BINARY[power]}"
        if self.notation is Notation.EXPONENT:
            number, power = _reduced(self.milli, 1000)
            return f"{number}e{3 * power - 3}" if power != 1 else str(number)
        number, power = _reduced(self.milli, 1000, len(_DECIMAL) - 1)
        return f"{number}{_DECIMAL[power]}"


def _parse(text: str) -> Quantity:
    match = _SYNTAX.fullmatch(text.strip(_SPACES))
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"not a quantity: {text[:80]!r}")
    sign, whole, fraction, suffix, exponent_sign, exponent = match.groups(default="")
    power = _exponent(exponent_sign, exponent) + _POWERS.get(suffix, 0) - len(fraction)
    base = 1024 ** _BINARY.index(suffix) if suffix in _BINARY else 1
    milli = _thousandths((whole + fraction).lstrip("0"), base, power)
    return Quantity(-milli if sign == "-" else milli, _notation(suffix, exponent))


_SHORT: Final = 32
"""Quantities parsed from texts of at most this length are kept in memory."""

# A cluster has few different amounts, and each report of the kubelet repeats those of its Pod.
_kept: Final = lru_cache(maxsize=1024)(_parse)


def _exponent(sign: str, digits: str) -> int:
    """Returns the exponent as Kubernetes reads it: the low 32 bits. Raises ValueError if it exceeds
    64 bits."""
    digits = digits.lstrip("0")
    value = int(digits[:20] or "0") * (-1 if sign == "-" else 1)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"not a quantity: its exponent is {sign}{digits[:20]}...")
    return (value + 2**31) % 2**32 - 2**31


def _thousandths(digits: str, base: int, power: int) -> int:
    """Returns ``digits * base * 10**power`` in thousandths, rounded up, at most _MOST * 1000. The
    digits must have no leading zero."""
    if not digits:
        return 0
    kept, rest = digits[:_DIGITS], digits[_DIGITS:]
    power += len(rest) + 3
    if len(kept) + power > _DIGITS:
        return _MOST * 1000
    if len(kept) + power < -_DIGITS:
        return 1
    number = (int(kept) + bool(rest.strip("0"))) * base
    milli: int = number * 10**power if power >= 0 else -(-number // 10**-power)
    return min(milli, _MOST * 1000)


def _notation(suffix: str, exponent: str) -> Notation:
    if exponent:
        return Notation.EXPONENT
    return Notation.BINARY if suffix in _BINARY[1:] else Notation.DECIMAL


def _reduced(number: int, base: int, most: int | None = None) -> tuple[int, int]:
    """Divides the number by the base while the result is an integer, at most ``most`` times.
    Returns the result, and how often the number was divided. The number must not be zero."""
    power = 0
    while number % base == 0 and power != most:
        number, power = number // base, power + 1
    return number, power
