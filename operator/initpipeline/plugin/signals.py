"""Signals that end the plugin. Private keys of the kubeconfig are in files while it runs, and must
not remain."""

import signal
import sys
from typing import Final

ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""The signals of kill(1), and of a terminal that is closed."""


def is_ignored(number: signal.Signals) -> bool:
    """Returns whether the parent process wants the signal to be ignored, as nohup(1) does."""
    return signal.getsignal(number) is signal.SIG_IGN


def exit_by_exception() -> None:
    """Makes the process exit by an exception on these signals, so that it removes its files."""
    for number in ENDING:
        if not is_ignored(number):
            signal.signal(number, _exit)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)
