"""The list of mutants that survive for a known reason."""

import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LIST: Final = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True, order=True)
class Survivor:
    """A changed line. It has no number, because each change of the function would change that."""

    function: str
    """``module.function`` or ``module.Class.method``."""
    before: str
    after: str

    def __post_init__(self) -> None:
        for side in ("before", "after"):
            object.__setattr__(self, side, " ".join(getattr(self, side).split()))

    @property
    def module(self) -> str:
        return self.function.partition(".")[0]


def explained() -> dict[Survivor, str]:
    """Return the reason of each mutant in the list."""
    return {
        Survivor(entry["function"], entry["before"], after): entry["reason"]
        for entry in tomllib.loads(LIST.read_text()).get("survivor", ())
        for after in entry["after"]
    }


def render(reasons: Mapping[Survivor, str]) -> str:
    """Return entries for the list: one for all replacements of a line with the same reason."""
    entries = []
    rows = sorted((s.function, s.before, reason, s.after) for s, reason in reasons.items())
    for (function, before, reason), same in itertools.groupby(rows, lambda row: row[:3]):
        after = "".join(f"    {_quoted(row[3])},\n" for row in same)
        entries.append(
            f"[[survivor]]\nfunction = {_quoted(function)}\nbefore = {_quoted(before)}\n"
            f"after = [\n{after}]\nreason = {_quoted(reason)}\n"
        )
    return "\n".join(entries)


def _quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text and '"' in text else json.dumps(text, ensure_ascii=False)
