"""Start processes that outlive this one, and end exactly those.

A process is recorded as its pid and the time it started: a pid that the kernel gave to another
process meanwhile does not match, and is never signalled. Signals go through a pidfd, which names
one process for good, so that nothing can happen between the check and the signal.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.cluster.errors import ClusterError

POLL_SECONDS: Final = 0.05
STOP_SECONDS: Final = 20.0
# The shell's child is adopted by init, so no one has to wait for it, and $! is its own pid.
DETACH: Final = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True)
class Process:
    """One process, for good: the pid and its start in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has this pid now, if it still runs."""
        try:
            # The name, in parentheses, may itself hold spaces and parentheses.
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, started = stat[0], int(stat[19])
        return None if state in "ZX" else cls(pid, started)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie doesn't."""
        return Process.of(self.pid) == self

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """Ask it to end, then make it; return once it has ended."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as descriptor:
            if not self.alive:
                return
            for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, STOP_SECONDS)):
                signal.pidfd_send_signal(descriptor, number)
                if _ended(descriptor, patience):
                    return
            raise ClusterError(f"process {self.pid} does not end, not even by SIGKILL")

    def kill(self) -> None:
        """End it with SIGKILL; return once it has ended."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as descriptor:
            if self.alive:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                _ended(descriptor, STOP_SECONDS)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _ended(descriptor: int, patience: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(patience * 1000))


@dataclass(frozen=True)
class Daemon:
    """A named process of a cluster: where it is recorded, where it writes."""

    name: str
    pid_file: Path
    log: Path

    def running(self) -> Process | None:
        """The process recorded, if it still runs."""
        try:
            pid, started = map(int, self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        process = Process(pid, started)
        return process if process.alive else None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it in a session of its own, unless it runs."""
        if self.running():
            return
        answer = subprocess.run(
            ["/bin/sh", "-c", DETACH, "sh", str(self.log), *command],
            env=_environment() | dict(environment or {}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            start_new_session=True,
        )
        process = Process.of(int(answer.stdout))
        if process is None:
            raise self.failure("ended at once")
        self.pid_file.write_text(f"{process.pid} {process.started}\n")

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """End it and forget it; nothing happens where it doesn't run."""
        process = self.running()
        if process:
            process.stop(grace)
        self.pid_file.unlink(missing_ok=True)

    def wait(self, ready: Callable[[], bool], deadline: float, what: str) -> None:
        """Wait until it is ready; fail when it ends or the deadline (in seconds) passes."""
        wait_until(
            ready,
            deadline,
            lambda: self.failure(f"{what} within {deadline:.0f} s"),
            given_up=lambda: None if self.running() else self.failure("ended"),
        )

    def failure(self, what: str) -> ClusterError:
        """An error that names the log and quotes its last line."""
        said = last_line(self.log)
        return ClusterError(f"{self.name}: {what}; its log, {self.log}, ends: {said}")


def wait_until(
    condition: Callable[[], bool],
    deadline: float,
    failure: Callable[[], ClusterError],
    given_up: Callable[[], ClusterError | None] = lambda: None,
) -> None:
    """Return as soon as the condition holds; raise when it can't, or doesn't within the time."""
    end = time.monotonic() + deadline
    while not condition():
        error = given_up()
        if error:
            raise error
        if time.monotonic() > end:
            raise failure()
        time.sleep(POLL_SECONDS)


def last_line(log: Path) -> str:
    """The last line of a log, or a word for there being none."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "(no log)"
    return lines[-1][:400] if lines else "(empty)"


def run(command: Sequence[str], what: str, stdin: IO[bytes] | None = None) -> str:
    """Run a command to its end and return what it printed; one line of error when it fails."""
    try:
        answer = subprocess.run(
            list(command),
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError:
        raise ClusterError(f"{what}: there is no program {command[0]} here") from None
    if answer.returncode:
        said = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        raise ClusterError(f"{what}: {said[:400]}")
    return answer.stdout


def _environment() -> dict[str, str]:
    """This process's environment less what would send the cluster's own traffic elsewhere."""
    unwanted = {"http_proxy", "https_proxy", "all_proxy", "kubeconfig"}
    return {key: value for key, value in os.environ.items() if key.lower() not in unwanted}
