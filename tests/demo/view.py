"""The output of the demo: a line for each change, and on a terminal a status line below them."""

import time
from collections.abc import Sequence
from typing import Final, cast

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tests.demo.observer import OperatorRestarted
from tests.demo.snapshot import Row, Snapshot

WIDTHS: Final = {
    "RUN": 4,
    "TRIGGER": 19,
    "INIT": 5,
    "STEP": 18,
    "REASON": 19,
    "POD STATUS": 22,
}
GOOD: Final = frozenset({"PodReady", "PodSucceeded", "Initialized"})
BAD: Final = frozenset({"StepFailed", "StepBackOff", "ContainerFailed", "PodLost", "RerunBackOff"})
# The width if the output is not a terminal, so that lines of a table are not wrapped.
PLAIN_WIDTH: Final = 160


class View:
    """The demo's standard output."""

    def __init__(self) -> None:
        """Start to measure the elapsed time."""
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
        """Show the status line, if the output is a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the status line. The lines above it stay."""
        self._live.stop()

    def __rich__(self) -> RenderableType:
        """Return the status line."""
        doing = (f" {self.seconds:5.1f}s  {self._doing}", "bold")
        frame = self._spinner.render(self.seconds)
        return Text.assemble(cast(Text, frame), doing, no_wrap=True, overflow="ellipsis")

    def __call__(self, line: str) -> None:
        """Print what is being done."""
        self._doing = line
        self._print(Text.assemble(self._clock(), line))

    @property
    def seconds(self) -> float:
        """The seconds since the start of the demo."""
        return time.monotonic() - self._began

    def title(self, text: str, explanation: str) -> None:
        """Print the title of the next act, and the column heads."""
        self._doing = text
        self._print(Text())
        self._print(Text.assemble(self._clock(), (text, "bold cyan")))
        self._print(Text.assemble(" " * 10, explanation))
        heads = "".join(f"{name:{width}}" for name, width in WIDTHS.items())
        self._print(Text(f"{'':10}{heads}MESSAGE", style="dim"))

    def changed(self, snapshot: Snapshot) -> None:
        """Do nothing. Changes are printed when they have settled."""

    def settled(self, snapshot: Snapshot) -> None:
        """Print a row for the pipeline and its Pod, unless it equals the previous one."""
        now = Row.of(snapshot)
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

    def operator_restarted(self, event: OperatorRestarted, _snapshot: Snapshot) -> None:
        """Print that the supervisor has restarted the operator."""
        self.note(f"the operator (pid {event.old_pid}) died: restarted it (pid {event.new_pid})")

    def note(self, text: str) -> None:
        """Print an explanation."""
        self._print(Text.assemble(self._clock(), ("-> " + text, "yellow")))

    def check(self, text: str, problem: str | None) -> None:
        """Print a checked claim. `problem` states what is wrong, unless the claim is true."""
        if problem is None:
            self._print(Text.assemble(self._clock(), ("ok  ", "green"), text))
        else:
            self._print(Text.assemble(self._clock(), ("NO  ", "red"), f"{text}: {problem}"))

    def table(self, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        table = Table(box=None, pad_edge=False)
        for head in heads:
            table.add_column(head, header_style="dim")
        for cells in rows:
            table.add_row(*map(Text, cells))
        self._print(Text())
        self._print(Text(title, style="bold cyan"))
        self._console.print(table)

    def text(self, *lines: str) -> None:
        """Print lines unchanged, so that the user can paste them."""
        for line in lines:
            self._print(Text(line))

    def _clock(self) -> tuple[str, str]:
        return f"[{self.seconds:6.1f}s] ", "dim"

    def _print(self, text: Text) -> None:
        # Lines are not wrapped here: a terminal does it, and pasted commands must stay complete.
        self._console.print(text, soft_wrap=True)


def _cells(now: Row) -> list[tuple[str, str]]:
    """Return the cells of a row, each with its style."""
    tone = "green" if now.reason in GOOD else "red" if now.reason in BAD else "yellow"
    cells = (
        (now.run, "bold"),
        (now.trigger, ""),
        (now.init, tone),
        (now.step, ""),
        (now.reason, tone),
        (now.pod, "magenta"),
    )
    widths = WIDTHS.values()
    return [(f"{text:{width}}", style) for (text, style), width in zip(cells, widths, strict=True)]
