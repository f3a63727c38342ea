"""Start, observe and end processes, including daemons that outlive this process.

A process is identified by its pid and its start time. If the kernel has reused the pid, the start
time differs, and the other process is never signalled. Signals are sent through a pidfd, so that
the pid cannot be reused between the check and the signal.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.cluster.errors import ClusterError
from tests.poll import poll_until

STOP_SECONDS: Final = 20.0
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
# init adopts the shell's child and reaps it. $! is the pid of the command itself.
DETACH: Final = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True)
class Process:
    """A process, identified by its pid and its start time in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the process that has this pid now. None if it has ended."""
        try:
            stat = _stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, started = stat[0], int(stat[19])
        return None if state in "ZX" else cls(pid, started)

    @property
    def alive(self) -> bool:
        """Whether it runs. A zombie does not."""
        return Process.of(self.pid) == self

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """Send SIGTERM and, after `grace` seconds, SIGKILL. Return when the process has ended."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as descriptor:
            if not self.alive:
                return
            for number, timeout in ((signal.SIGTERM, grace), (signal.SIGKILL, STOP_SECONDS)):
                signal.pidfd_send_signal(descriptor, number)
                if _ended(descriptor, timeout):
                    return
            raise ClusterError(f"process {self.pid} does not end after SIGKILL")

    def kill(self) -> None:
        """Send SIGKILL. Return when the process has ended."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as descriptor:
            if self.alive:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                _ended(descriptor, STOP_SECONDS)


@dataclass(frozen=True)
class Usage:
    """The resource usage of the process with this pid, from /proc."""

    pid: int

    def cpu_ms(self) -> float:
        """Return the CPU time since its start in ms: user and system time of all threads."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) * 1000 / TICKS_PER_SECOND

    def resident_mib(self) -> float:
        """Return its present memory usage in MiB."""
        return self._mib("VmRSS:")

    def peak_mib(self) -> float:
        """Return its highest memory usage so far in MiB."""
        return self._mib("VmHWM:")

    def _mib(self, field: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return 0.0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, beginning with the state."""
    # The name, in parentheses, may contain spaces and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _ended(descriptor: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


@dataclass(frozen=True)
class Daemon:
    """A named process that outlives this one, recorded in a pid file, with a log file."""

    name: str
    pid_file: Path
    log: Path

    def running(self) -> Process | None:
        """Return the recorded process. None if no process is recorded or it has ended."""
        try:
            pid, started = map(int, self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        process = Process(pid, started)
        return process if process.alive else None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it in a session of its own, unless it is running."""
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
            raise self.failure("it ended immediately")
        self.pid_file.write_text(f"{process.pid} {process.started}\n")

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """Stop it and remove the pid file. Do nothing if it is not running."""
        process = self.running()
        if process:
            process.stop(grace)
        self.pid_file.unlink(missing_ok=True)

    def wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until the condition is true.

        Raise ClusterError if the process ends or `timeout` seconds have passed.
        """

        def met() -> bool:
            if condition():
                return True
            if not self.running():
                raise self.failure("it has ended")
            return False

        poll_until(met, timeout, what, error=self.failure)

    def failure(self, what: str) -> ClusterError:
        """Return an error with the path and the last line of the log."""
        last = last_line(self.log)
        return ClusterError(f"{self.name}: {what}; last line of its log {self.log}: {last}")


def last_line(log: Path) -> str:
    """Return the last line of a log. If it has no line, return a text in parentheses."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "(no log)"
    return lines[-1][:400] if lines else "(empty)"


def run(command: Sequence[str], what: str, stdin: IO[bytes] | None = None) -> str:
    """Run a command and return its output. Raise ClusterError if it fails."""
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
        raise ClusterError(f"{what}: the program {command[0]} is not installed") from None
    if answer.returncode:
        error = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        raise ClusterError(f"{what}: {error[:400]}")
    return answer.stdout


def _environment() -> dict[str, str]:
    """Return this process's environment without proxies and KUBECONFIG."""
    unwanted = {"http_proxy", "https_proxy", "all_proxy", "kubeconfig"}
    return {key: value for key, value in os.environ.items() if key.lower() not in unwanted}
