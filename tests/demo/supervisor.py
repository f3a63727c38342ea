"""The operator's process, watched over as a Deployment would: when it dies, it is started again."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.paths import Layout
from tests.cluster.processes import Daemon, Process, last_line
from tests.demo.errors import DemoError
from tests.demo.world import Failed, Feed, Restarted

LOOK_SECONDS: Final = 0.1
# Whoever stops the operator by its pid file removes the file a moment after the process has ended.
STOPPED_SECONDS: Final = 0.3
# An operator that ends sooner, and by its own word, is started again so often.
SHORT_LIFE_SECONDS: Final = 10.0
SHORT_LIVES: Final = 3


class Supervisor:
    """One operator, recorded among the processes of its cluster, so that they end together."""

    def __init__(
        self, layout: Layout, arguments: Sequence[str], environment: Mapping[str, str], feed: Feed
    ) -> None:
        """Nothing is started before start()."""
        program = Path(sys.executable).with_name("initpipeline")
        if not program.exists():
            raise DemoError(f"there is no {program}: install this project first (make venv)")
        self._command = [str(program), "run", *arguments]
        self._environment = environment
        self._daemon = Daemon("operator", layout.pid_file("operator"), layout.log("operator"))
        self._feed = feed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch_over, name="supervisor", daemon=True)

    @property
    def log(self) -> Path:
        """Where the operator writes."""
        return self._daemon.log

    def pid(self) -> int | None:
        """Of the operator; None while there is none."""
        process = self._daemon.running()
        return process.pid if process else None

    def stop_earlier(self) -> int | None:
        """End the operator that an earlier demo left; its pid, or None where there was none."""
        pid = self.pid()
        self._daemon.stop()
        return pid

    def start(self) -> None:
        """Start the operator and watch over it."""
        self._daemon.start(self._command, self._environment)
        self._thread.start()

    def close(self) -> None:
        """Watch over it no longer; it goes on."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def leave_running(self) -> int | None:
        """Watch over it no longer, and leave one that runs, however lately it died; its pid."""
        self.close()
        self._daemon.start(self._command, self._environment)
        return self.pid()

    def _watch_over(self) -> None:
        short_lives = 0
        while not self._closed.is_set():
            began, process = time.monotonic(), self._daemon.running()
            while process and process.alive and not self._closed.wait(LOOK_SECONDS):
                pass
            if self._closed.wait(STOPPED_SECONDS):
                return
            short = time.monotonic() - began < SHORT_LIFE_SECONDS and self._complaint()
            short_lives = short_lives + 1 if short else 0
            try:
                self._start_again(process, short_lives)
            except (ClusterError, OSError) as error:
                self._feed.put(Failed(f"the operator cannot be started again: {error}"))
                return
            except DemoError as error:
                self._feed.put(Failed(str(error)))
                return

    def _start_again(self, dead: Process | None, short_lives: int) -> None:
        if not self._daemon.pid_file.exists():
            raise DemoError("the operator was stopped from outside: was the cluster taken down?")
        if short_lives >= SHORT_LIVES:
            raise DemoError(f"the operator does not stay up: {self._complaint()}")
        self._daemon.start(self._command, self._environment)
        self._feed.put(Restarted(dead.pid if dead else 0, self.pid() or 0))

    def _complaint(self) -> str:
        """What the operator said when it ended by itself; empty where it was killed."""
        said = last_line(self._daemon.log)
        return said.removeprefix("error: ") if said.startswith("error: ") else ""
