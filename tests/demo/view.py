"""What the demo shows: a line a change, and on a terminal the present below them."""

import time
from collections.abc import Sequence
from typing import Final, cast

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tests.demo.snapshot import Row, Snapshot, row
from tests.demo.world import Restarted

WIDTHS: Final = {
    "RUN": 4,
    "TRIGGER": 19,
    "INIT": 5,
    "STEP": 18,
    "REASON": 19,
    "POD SAYS": 22,
}
GOOD: Final = frozenset({"PodReady", "PodSucceeded", "Initialized"})
BAD: Final = frozenset({"StepFailed", "StepBackOff", "ContainerFailed", "PodLost", "RerunBackOff"})
# Of a log, a file: wide enough that no line of a table is broken.
PLAIN_WIDTH: Final = 160


class View:
    """The demo's standard output."""

    def __init__(self) -> None:
        """Begin to count the seconds now."""
        self._began = time.monotonic()
        self._console = Console(highlight=False, markup=False, emoji=False)
        if not self._console.is_terminal:
            self._console.width = PLAIN_WIDTH
        self._spinner = Spinner("dots", style="cyan")
        self._doing = "starting"
        self._last: Row | None = None
        self._live = Live(
            self, console=self._console, transient=True, refresh_per_second=8, redirect_stderr=False
        )

    def __enter__(self) -> "View":
        """Show the present, where there is somebody to see it."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What was said stays, the present goes."""
        self._live.stop()

    def __rich__(self) -> RenderableType:
        """The present."""
        words = (f" {self.seconds:5.1f}s  {self._doing}", "bold")
        frame = self._spinner.render(self.seconds)
        return Text.assemble(cast(Text, frame), words, no_wrap=True, overflow="ellipsis")

    def __call__(self, line: str) -> None:
        """A line about what is being done."""
        self._doing = line
        self._print(Text.assemble(self._clock(), line))

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def title(self, text: str, explanation: str) -> None:
        """The next act, and the heads of the columns."""
        self._doing = text
        self._print(Text())
        self._print(Text.assemble(self._clock(), (text, "bold cyan")))
        self._print(Text.assemble(" " * 10, explanation))
        heads = "".join(f"{name:{width}}" for name, width in WIDTHS.items())
        self._print(Text(f"{'':10}{heads}MESSAGE", style="dim"))

    def moved(self, snapshot: Snapshot) -> None:
        """Changes are shown once they have come to rest."""

    def show(self, snapshot: Snapshot) -> None:
        """A line for the pipeline beside its Pod, if it is news."""
        now = row(snapshot)
        if now == self._last:
            return
        self._last = now
        line = Text.assemble(self._clock(), *_cells(now))
        message = Text(now.message, style="dim")
        if self._console.is_terminal and line.cell_len + len(message) > self._console.width:
            self._console.print(line, no_wrap=True, overflow="ellipsis")
            self._console.print(Padding(message, (0, 0, 0, 10)))
        else:
            self._print(line + message)

    def restarted(self, event: Restarted, _snapshot: Snapshot) -> None:
        """As a Deployment would have done it."""
        self.note(f"the operator (pid {event.before}) died: started again (pid {event.after})")

    def note(self, text: str) -> None:
        """Why something is as it is."""
        self._print(Text.assemble(self._clock(), ("-> " + text, "yellow")))

    def check(self, text: str, problem: str | None) -> None:
        """One thing that was checked."""
        if problem is None:
            self._print(Text.assemble(self._clock(), ("ok  ", "green"), text))
        else:
            self._print(Text.assemble(self._clock(), ("NO  ", "red"), f"{text}: {problem}"))

    def table(self, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table."""
        table = Table(box=None, pad_edge=False)
        for head in heads:
            table.add_column(head, header_style="dim")
        for cells in rows:
            table.add_row(*map(Text, cells))
        self._print(Text())
        self._print(Text(title, style="bold cyan"))
        self._console.print(table)

    def text(self, *lines: str) -> None:
        """Lines as they are, to be pasted."""
        for line in lines:
            self._print(Text(line))

    def _clock(self) -> tuple[str, str]:
        return f"[{self.seconds:6.1f}s] ", "dim"

    def _print(self, text: Text) -> None:
        # Never broken by us: a terminal does that itself, and a file or a pasted command is whole.
        self._console.print(text, soft_wrap=True)


def _cells(now: Row) -> list[tuple[str, str]]:
    """The columns, each with its colour."""
    tone = "green" if now.reason in GOOD else "red" if now.reason in BAD else "yellow"
    told = (
        (now.run, "bold"),
        (now.trigger, ""),
        (now.init, tone),
        (now.step, ""),
        (now.reason, tone),
        (now.pod, "magenta"),
    )
    widths = WIDTHS.values()
    return [(f"{text:{width}}", style) for (text, style), width in zip(told, widths, strict=True)]
