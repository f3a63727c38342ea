"""Waiting for a state of a pipeline, with a display of its progress."""

import argparse
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.plugin.errors import TimedOutError
from initpipeline.plugin.report.wait_results import WaitResult
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.views import status as view
from initpipeline.plugin.views import styles

Check = Callable[[Pipeline], WaitResult | None]
"""Returns the result of the wait for a state of the pipeline. None: keep waiting."""


def wait(
    session: Session, target: Target, check: Check, seconds: float | None = None
) -> tuple[Pipeline, WaitResult]:
    """Wait until the check returns a result. Returns it with the pipeline's state.

    Meanwhile a terminal shows the steps. Other outputs get a line for each change. Raises
    TimedOutError, NotFoundError.
    """
    display = _Display(session)
    pipeline = None
    with display:
        for state in session.cluster.follow_pipeline(target.namespace, target.name, seconds):
            pipeline = Pipeline.from_api(state)
            display.show(pipeline)
            result = check(pipeline)
            if result is not None:
                return pipeline, result
    last = view.line(pipeline) if pipeline else "the InitPipeline could not be read"
    explain = f"kubectl initpipeline explain {target.name}{session.flags(target)}"
    raise TimedOutError(f"timed out; {last}; to see why: {explain}")


def wait_for_all(
    session: Session, checks: Mapping[Target, Check], seconds: float | None = None
) -> int:
    """Wait for all pipelines. Returns the exit code: 0 if all results are good, otherwise 1. Raises
    TimedOutError after ``seconds``, which is the limit for all together."""
    started_at = time.monotonic()
    exit_code = 0
    for target, check in checks.items():
        left = None if seconds is None else max(0.0, started_at + seconds - time.monotonic())
        _, result = wait(session, target, check, left)
        exit_code |= not result.ok
        line = f"{target.name}: {result.message}"
        session.err.print(line, style="" if result.ok else styles.BAD, soft_wrap=True)
    return exit_code


class _Display:
    """The pipeline's state: refreshed continuously on a terminal, otherwise one line per change."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._pipeline: Pipeline | None = None
        self._pod: Pod | None = None
        self._last = ""
        self._live = Live(self, console=session.err, transient=True, refresh_per_second=4)

    def __enter__(self) -> "_Display":
        if self._session.err.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __rich__(self) -> RenderableType:
        with self._lock:
            if self._pipeline is None:
                return Text("waiting for the cluster ...", styles.QUIET)
            return view.tree(self._pipeline, self._session.cluster.now(), self._pod)

    def show(self, pipeline: Pipeline) -> None:
        """Replace the displayed state, or print a line for it."""
        pod = self._session.pod_of(pipeline) if self._session.err.is_terminal else None
        with self._lock:
            self._pipeline, self._pod = pipeline, pod
        line = view.line(pipeline)
        if line == self._last or self._session.err.is_terminal:
            return
        self._last = line
        self._session.err.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True)


def add_timeout_option(parser: argparse.ArgumentParser, of: str) -> None:
    """Add the option --timeout. ``of`` completes its help text."""
    parser.add_argument(
        "--timeout",
        type=parse_duration,
        metavar="TIME",
        help=f"time limit of {of}: 90s, 5m, 1h (default: none)",
    )


def parse_duration(text: str) -> float:
    """Returns the seconds of a duration such as ``90``, ``90s``, ``5m`` or ``1h30m``. Raises
    ValueError, which argparse reports as an invalid option."""
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    total, number = timedelta(), ""
    for letter in text if text[-1:] in units else f"{text}s":
        if letter in units:
            total += timedelta(**{units[letter]: float(number)})
            number = ""
        else:
            number += letter
    if total <= timedelta():
        raise ValueError(text)
    return total.total_seconds()
