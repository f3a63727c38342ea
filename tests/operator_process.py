"""Run the operator as a process, against a real API server.

This is a child process, not a Daemon of tests/cluster/processes.py: only the parent of a process
can read its exit code, which tests check. The operator of the demo outlives the demo, so it is a
Daemon.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.poll import poll_until
from tests.preloaded import PreloadedProcess

START_SECONDS = 60.0
STOP_SECONDS = 15.0
"""Half of a Pod's default terminationGracePeriodSeconds."""


class OperatorProcess:
    """``initpipeline run``, with its log in a file. It can be started again after it has ended.

    By default it has a Lease of its own, so that it does not stand by for the operator of another
    test. When it is started again, it has the same identity, and does not wait for its own Lease.
    """

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        module: str = "initpipeline",
    ) -> None:
        self._module = module
        self._arguments = ["run", *arguments]
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("INITPIPELINE_")},
            "INITPIPELINE_LEASE_NAME": f"operator-{uuid.uuid4()}",
            "INITPIPELINE_IDENTITY": f"replica-{uuid.uuid4()}",
            **(environment or {}),
            "KUBECONFIG": str(kubeconfig),
        }
        self.log = log
        self._process: subprocess.Popen[bytes] | PreloadedProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the operator was never started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it. None: it runs."""
        return None if self._process is None else self._process.poll()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log of all starts, parsed."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def start(self, event: str = "operator started", seconds: float = START_SECONDS) -> None:
        """Start the operator, and wait until it logs this event.

        Raises AssertionError if it does not within ``seconds``, and kills it.
        """
        starts_before = self._count(event)
        self._process = self._spawn()
        try:
            poll_until(
                lambda: self._started(event, starts_before),
                seconds,
                f"the operator logs {event!r}",
                state=self.tail,
                error=AssertionError,
            )
        except BaseException:
            self.kill()
            raise

    def _spawn(self) -> "subprocess.Popen[bytes] | PreloadedProcess":
        command = [sys.executable, "-m", self._module, *self._arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=self._environment, stderr=log)

    def _started(self, event: str, starts_before: int) -> bool:
        if self._count(event) > starts_before:
            return True
        assert self.running, f"the operator ended with {self.exit_code}: {self.tail()}"
        return False

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Send SIGKILL, so that the operator cannot clean up, and wait for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def tail(self) -> str:
        """Return the end of the log, for the message of a failure."""
        return self.log.read_text()[-2000:] if self.log.exists() else "(no log)"

    def _count(self, event: str) -> int:
        return self.log.read_text().count(f'"{event}"') if self.log.exists() else 0


class PreloadedOperator(OperatorProcess):
    """The operator in a process that has imported it already. It starts with a quarter of the CPU
    time, which counts in tests that start one each."""

    def _spawn(self) -> PreloadedProcess:
        return PreloadedProcess(self._arguments, self._environment, self.log)
