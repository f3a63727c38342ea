"""The operator as a process of its own, for tests that talk to a real API server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
STOP_SECONDS = 15.0
"""Half of what Kubernetes gives it by default before it kills it."""


class OperatorProcess:
    """``initpipeline run``, with its log in a file. May be started again after each end."""

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "initpipeline", "run", *arguments]
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("INITPIPELINE_")},
            **(environment or {}),
            "KUBECONFIG": str(kubeconfig),
        }
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the operator was never started"
        return self._process.pid

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, over all starts."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def start(self) -> None:
        """Start it, and wait until it says that it has. Raises AssertionError where it does not."""
        said_before = self._times_said("operator started")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stderr=log)
        try:
            self._wait_until_started(said_before)
        except AssertionError:
            self.kill()
            raise

    def _wait_until_started(self, said_before: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._times_said("operator started") == said_before:
            assert self._process is not None
            assert self.running, (
                f"the operator ended with {self._process.returncode}: {self.tail()}"
            )
            assert time.monotonic() < deadline, f"the operator does not start: {self.tail()}"
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM. Returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL: nothing of it can be tidied up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def tail(self) -> str:
        """The end of the log, for a failure's message."""
        return self.log.read_text()[-2000:] if self.log.exists() else "(no log)"

    def _times_said(self, message: str) -> int:
        return self.log.read_text().count(f'"{message}"') if self.log.exists() else 0
