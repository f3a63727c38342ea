"""Write the facts to a file, and judge such a file again."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from tests.soak.facts import ContainersSeen, Gap, PipelineSeen, PodSeen, ProcessSeen

Fact = PipelineSeen | PodSeen | Gap | ContainersSeen | ProcessSeen
KINDS: Final[dict[str, type[Fact]]] = {
    kind.__name__: kind for kind in (PipelineSeen, PodSeen, Gap, ContainersSeen, ProcessSeen)
}


class Record:
    """One JSON line for each fact, preceded by its kind."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, fact: Fact) -> None:
        """Append a fact."""
        line = type(fact).__name__.encode() + b" " + msgspec.json.encode(fact) + b"\n"
        self._file.write(line)


def facts(file: Path) -> Iterator[Fact]:
    """Yield the facts of a file."""
    with file.open("rb") as lines:
        for line in lines:
            kind, _, text = line.partition(b" ")
            yield msgspec.json.decode(text, type=KINDS[kind.decode()])
