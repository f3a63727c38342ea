"""Amounts of a resource as the Kubernetes API writes them: 100m, 1.5, 128Mi, 1e3.

The rules are those of k8s.io/apimachinery's resource.Quantity. Own code, because the core imports
no client, and because the official client's reader forgets the notation, which a sum keeps.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal
from enum import Enum, auto
from typing import Final

_SYNTAX: Final = re.compile(
    r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|([eE][+-]?[0-9]+))?\s*"
)
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("m", "", "k", "M", "G", "T", "P", "E")
_FACTORS: Final = {
    **{suffix: Decimal(1024**power) for power, suffix in enumerate(_BINARY)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("n", "u", *_DECIMAL), -3)},
}
_MOST: Final = Decimal(2**63 - 1)
_DIGITS: Final = 100
"""More than any amount has; where one has more, it is rounded up."""


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
        """Raises ValueError where the text is no quantity. One above 2^63 - 1 counts as that."""
        found = _SYNTAX.fullmatch(text)
        if found is None:
            raise ValueError(f"not a quantity: {text[:80]!r}")
        number, suffix, exponent = found.groups(default="")
        context = Context(prec=_DIGITS, rounding=ROUND_UP)
        try:
            written = context.create_decimal(number + exponent)
        except ArithmeticError as error:
            raise ValueError(f"not a quantity: {text[:80]!r}") from error
        amount = min(context.multiply(written, _FACTORS[suffix]), _MOST)
        milli = int(context.multiply(amount, Decimal(1000)).to_integral_value(rounding=ROUND_UP))
        return cls(milli, _notation(suffix, exponent))

    def __add__(self, other: "Quantity") -> "Quantity":
        """The sum, in the notation of the first that is not zero."""
        return Quantity(self.milli + other.milli, (self if self.milli else other).notation)

    def __str__(self) -> str:
        """The canonical form: the largest suffix that leaves a whole number."""
        if self.milli == 0:
            return "0"
        whole, rest = divmod(self.milli, 1000)
        if self.notation is Notation.BINARY and not rest and whole >= 1024:
            number, power = _reduced(whole, 1024, len(_BINARY) - 1)
            return f"{number}{_BINARY[power]}"
        if self.notation is Notation.EXPONENT:
            number, power = _reduced(self.milli, 1000)
            return f"{number}e{3 * power - 3}" if power != 1 else str(number)
        number, power = _reduced(self.milli, 1000, len(_DECIMAL) - 1)
        return f"{number}{_DECIMAL[power]}"


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
