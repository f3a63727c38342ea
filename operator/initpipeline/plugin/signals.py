"""Signals that end the plugin. Private keys of the kubeconfig are in files while it runs, and must
not remain."""

import signal
import sys


def ending() -> tuple[signal.Signals, ...]:
    """Returns the signals that end the process: that of kill(1), and that of a terminal that is
    closed, unless the parent process lets it be ignored, as nohup(1) does."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)


def exit_by_exception() -> None:
    """Makes the process exit by an exception on these signals, so that it removes its files."""
    for number in ending():
        signal.signal(number, _exit)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)
