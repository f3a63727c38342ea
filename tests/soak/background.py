"""Threads whose failure ends the soak. A judge that has stopped would find no violation."""

import threading
from collections.abc import Callable


class Background:
    """Runs an action in a thread. ``check`` and ``join`` raise the exception that ended it."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self._name = name
        self._action = action
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the action has not ended yet."""
        return self._thread.is_alive()

    def check(self) -> None:
        """Raise RuntimeError if the action has failed."""
        if self._error is not None:
            raise RuntimeError(f"{self._name} failed") from self._error

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end, at most so many seconds. Raises RuntimeError if the action failed."""
        self._thread.join(seconds)
        self.check()

    def _run(self) -> None:
        try:
            self._action()
        except Exception as error:
            self._error = error
