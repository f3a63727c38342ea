"""Renders views as plain text."""

from rich.console import Console, RenderableType


def text(view: RenderableType, width: int = 400) -> str:
    """Returns the view as a user sees it, without colours and without the padding of tables."""
    console = Console(width=width, color_system=None, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(view)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
