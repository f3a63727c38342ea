"""The packages that requirements.txt pins, with the hashes of their files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ENTRY: Final = re.compile(r"^[^\s#].*?(?=^[^\s#]|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Pinned:
    """A package of the lock file."""

    name: str
    """Normalized: lower case, with hyphens."""
    version: str
    text: str
    """The entry of the lock file, with the hashes."""


def locked_packages(file: Path) -> dict[str, Pinned]:
    """Return the packages of a lock file, by name."""
    found: dict[str, Pinned] = {}
    for entry in _ENTRY.findall(file.read_text()):
        requirement = Requirement(entry.split("\\\n")[0].split(" #")[0].strip())
        name = canonicalize_name(requirement.name)
        version = str(requirement.specifier).removeprefix("==")
        found[name] = Pinned(name, version, entry)
    return found
