"""Amounts of a resource as the Kubernetes API writes them: 100m, 1.5, 128Mi, 1e3.

The rules are those of k8s.io/apimachinery's resource.Quantity. Own code, because the core imports
no client, and because the official client's reader forgets the notation, which a sum keeps.

The text comes from users, so reading it takes time in proportion to its length, whatever it holds:
no pattern backtracks, and no number is computed that is larger than an amount can be.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
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
"""Digits that are read, more than any amount has. The rest rounds the amount up."""


class Notation(Enum):
    """How an amount was written, and is written again."""

    DECIMAL = auto()
    BINARY = auto()
    EXPONENT = auto()


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount, exact to a thousandth: the API server rounds a Pod's resources up to that."""

    milli: int
    """The amount in thousandths."""
    notation: Notation = Notation.DECIMAL

    @classmethod
    def parse(cls, text: str) -> "Quantity":
        """Returns the amount that the text gives. One beyond 2^63 - 1 counts as that, in either
        direction.

        Raises ValueError if the text is no quantity.
        """
        found = _SYNTAX.fullmatch(text.strip(_SPACES))
        if found is None or not (found[2] or found[3]):
            raise ValueError(f"not a quantity: {text[:80]!r}")
        sign, whole, fraction, suffix, exponent_sign, exponent = found.groups(default="")
        power = _exponent(exponent_sign, exponent) + _POWERS.get(suffix, 0) - len(fraction)
        base = 1024 ** _BINARY.index(suffix) if suffix in _BINARY else 1
        milli = _thousandths((whole + fraction).lstrip("0"), base, power)
        return cls(-milli if sign == "-" else milli, _notation(suffix, exponent))

    def __add__(self, other: "Quantity") -> "Quantity":
        """The sum, in the notation of the first that is not zero."""
        return Quantity(self.milli + other.milli, (self if self.milli else other).notation)

    def __str__(self) -> str:
        """The canonical form: the largest suffix that leaves a whole number."""
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


def _exponent(sign: str, digits: str) -> int:
    """Returns the exponent as Kubernetes reads it: the low 32 bits. Raises ValueError for one
    beyond 64 bits."""
    digits = digits.lstrip("0")
    value = int(digits[:20] or "0") * (-1 if sign == "-" else 1)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"not a quantity: its exponent is {sign}{digits[:20]}...")
    return (value + 2**31) % 2**32 - 2**31


def _thousandths(digits: str, base: int, power: int) -> int:
    """Returns ``digits * base * 10**power`` in thousandths, rounded up, at most _MOST. The digits
    have no leading zero."""
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
    """The number without its factors of the base, and how many those were. It is not zero."""
    power = 0
    while number % base == 0 and power != most:
        number, power = number // base, power + 1
    return number, power
