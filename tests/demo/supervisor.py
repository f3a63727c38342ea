"""Restart the operator's process when it dies, as a Deployment would."""

import sys
import threading
import time
from pathlib import Path
from typing import Final, Self

from tests.cluster.errors import ClusterError
from tests.cluster.processes import Daemon, last_line
from tests.demo.cluster import DemoCluster
from tests.demo.errors import DemoError
from tests.demo.observer import Feed, OperatorFailed, OperatorRestarted

POLL_SECONDS: Final = 0.1
# `make cluster-down` removes the pid file shortly after it has stopped the operator.
STOPPED_SECONDS: Final = 0.3
SHORT_LIFE_SECONDS: Final = 10.0
MAX_SHORT_LIVES: Final = 3
"""How often in a row the operator may end with an error within SHORT_LIFE_SECONDS."""


class Supervisor:
    """The operator, as a process of the cluster, so that it is stopped with the cluster."""

    def __init__(self, cluster: DemoCluster, feed: Feed) -> None:
        program = Path(sys.executable).with_name("initpipeline")
        if not program.exists():
            raise DemoError(f"there is no {program}: install the project with make venv")
        # With the same identity, a restarted operator does not wait until its Lease has expired.
        identity = ("--identity", "demo")
        self._command = [str(program), "run", *identity, *cluster.operator_arguments]
        self._environment = {"KUBECONFIG": str(cluster.kubeconfig), **cluster.proxies}
        layout = cluster.layout
        self._daemon = Daemon("operator", layout.pid_file("operator"), layout.log("operator"))
        self._feed = feed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to supervise the operator, which continues to run."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def log(self) -> Path:
        """The operator's log."""
        return self._daemon.log

    def pid(self) -> int | None:
        """Return the pid of the operator. None if it is not running."""
        process = self._daemon.running()
        return process.pid if process else None

    def stop_earlier(self) -> int | None:
        """Stop the operator of an earlier demo, and return its pid. None if there was none."""
        pid = self.pid()
        self._daemon.stop()
        return pid

    def start(self) -> None:
        """Start the operator and supervise it."""
        self._daemon.start(self._command, self._environment)
        self._thread.start()

    def leave_running(self) -> int | None:
        """Stop to supervise the operator, but make sure that it runs. Return its pid."""
        self.__exit__()
        self._daemon.start(self._command, self._environment)
        return self.pid()

    def _supervise(self) -> None:
        short_lives = 0
        while not self._closed.is_set():
            started, process = time.monotonic(), self._daemon.running()
            while process and process.alive and not self._closed.wait(POLL_SECONDS):
                pass
            if self._closed.wait(STOPPED_SECONDS):
                return
            short = time.monotonic() - started < SHORT_LIFE_SECONDS and self._error()
            short_lives = short_lives + 1 if short else 0
            try:
                self._restart(process.pid if process else 0, short_lives)
            except (ClusterError, DemoError, OSError) as error:
                self._feed.put(OperatorFailed(f"the operator cannot be restarted: {error}"))
                return

    def _restart(self, old_pid: int, short_lives: int) -> None:
        if not self._daemon.pid_file.exists():
            raise DemoError("it was stopped from outside, perhaps with the cluster")
        if short_lives >= MAX_SHORT_LIVES:
            raise DemoError(f"it ended {short_lives} times in a row: {self._error()}")
        self._daemon.start(self._command, self._environment)
        self._feed.put(OperatorRestarted(old_pid, self.pid() or 0))

    def _error(self) -> str:
        """Return the error with which the operator ended. Return "" if it was killed."""
        line = last_line(self._daemon.log)
        return line.removeprefix("error: ") if line.startswith("error: ") else ""
