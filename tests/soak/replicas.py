"""Replicas of the operator as processes. One that ends is started again, as the kubelet would."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.faultproxy import FaultProxy
from tests.operator_process import OperatorProcess
from tests.soak.facts import ProcessSeen, Role
from tests.soak.observer import Clock

LEASE: Final = "initpipeline"
LEASE_NAMESPACE: Final = "initpipeline-system"
RESTART_SECONDS: Final = 1.0
START_SECONDS: Final = 600.0
"""Long, because a process that is never scheduled on a busy machine is no fault of the operator."""
STARTED: Final = "operator started"
HOLDS: Final = "Lease acquired"
"""Logged once: a process that loses the Lease ends."""
LOST: Final = "error: the Lease "
"""The last line of a process that has lost the Lease."""


class EndKind(StrEnum):
    """Why a process ended."""

    INJECTED = "by a signal of the soak"
    LEASE_LOST = "because it lost the Lease"
    NOT_STARTED = "before it had started, in an outage of the API server"
    BY_ITSELF = "by itself"


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended."""

    at: float
    kind: EndKind
    code: int | None
    last_line: str


class Replica:
    """One replica. It keeps its identity when its process is restarted, like a container."""

    def __init__(
        self, number: int, kubeconfig: Path, proxy: FaultProxy, logs: Path, clock: Clock
    ) -> None:
        self.number = number
        self.proxy = proxy
        """All requests of the replica pass through this proxy."""
        self.ends: list[End] = []
        self.logs: list[Path] = []
        self._kubeconfig = proxy.kubeconfig(kubeconfig)
        self._folder = logs
        self._clock = clock
        self._identities = self._starts = 0
        self._process: OperatorProcess | None = None
        self._signalled = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=self.identity, daemon=True)

    @property
    def identity(self) -> str:
        """Its name in the Lease."""
        return f"replica-{self.number}-{self._identities}"

    def start(self) -> None:
        """Start the process, and keep it running."""
        self._thread.start()

    def end(self) -> None:
        """Stop the process for good."""
        self._ended.set()
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        self._thread.join(30)
        if self._running():
            self.send(signal.SIGKILL)

    def send(self, number: int) -> bool:
        """Send a signal. Returns False if the process does not run."""
        if not self._running():
            return False
        assert self._process is not None
        self._signalled |= number in (signal.SIGKILL, signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
        return True

    def replace(self) -> None:
        """Kill the process. The next one has another identity, like the Pod of a Deployment."""
        self._identities += 1
        self.send(signal.SIGKILL)

    def seen(self) -> ProcessSeen | None:
        """Return what its process uses. None: it does not run."""
        process = self._process
        if process is None or not process.running:
            return None
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208
        except (FileNotFoundError, ProcessLookupError):
            return None
        memory = pages * os.sysconf("SC_PAGE_SIZE")
        number, role = str(self.number), _role(process)
        return ProcessSeen(self._clock(), number, process.pid, role, memory, descriptors)

    def _running(self) -> bool:
        return self._process is not None and self._process.running

    def _supervise(self) -> None:
        while not self._ended.is_set():
            log = self._folder / f"replica-{self.number}-{self._starts}.log"
            self.logs.append(log)
            self._starts += 1
            arguments = ["--lease-namespace", LEASE_NAMESPACE, "--log-format", "json"]
            environment = {"INITPIPELINE_LEASE_NAME": LEASE, "INITPIPELINE_IDENTITY": self.identity}
            self._signalled = False
            process = OperatorProcess(self._kubeconfig, log, arguments, environment)
            self._process = process
            with contextlib.suppress(AssertionError):  # It ended at once: see its log.
                process.start(STARTED, START_SECONDS)
            while process.running:
                time.sleep(0.1)
            if not self._ended.is_set():
                self._note_end(process)
                self._ended.wait(RESTART_SECONDS)

    def _note_end(self, process: OperatorProcess) -> None:
        text = process.log.read_text()
        last = text.strip().rpartition("\n")[2]
        kind = EndKind.BY_ITSELF
        if self._signalled:
            kind = EndKind.INJECTED
        elif process.exit_code == 1 and last.startswith(LOST):
            kind = EndKind.LEASE_LOST
        elif process.exit_code == 1 and last.startswith("error: ") and STARTED not in text:
            kind = EndKind.NOT_STARTED
        self.ends.append(End(self._clock(), kind, process.exit_code, last))

    def log_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON lines of its logs since the last call of forget."""
        for log in self.logs:
            for line in log.read_text().splitlines() if log.exists() else ():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def forget(self) -> None:
        """Forget the ends and logs so far. The log of the present process is read again."""
        self.ends.clear()
        del self.logs[:-1]


def _role(process: OperatorProcess) -> Role:
    text = process.log.read_text()
    if f'"{STARTED}"' not in text:
        return Role.STARTING
    return Role.HOLDER if f'"{HOLDS}"' in text else Role.STANDBY


def holder(replicas: list[Replica], identity: str) -> Replica | None:
    """Return the replica of this identity. None: no replica has it."""
    return next((one for one in replicas if one.identity == identity), None)
