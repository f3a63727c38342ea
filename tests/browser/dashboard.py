"""Runs ``kubectl initpipeline dashboard`` as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROGRAM: Final = "import sys; from initpipeline.plugin.main import main; sys.exit(main())"


@dataclass(frozen=True)
class Serving:
    """A dashboard that is running."""

    address: str
    """What it has printed, with the token."""
    process: "subprocess.Popen[str]"

    @property
    def origin(self) -> str:
        """The address without the token."""
        return self.address.partition("/?")[0]


@contextmanager
def serving(kubeconfig: Path, *options: str) -> Iterator[Serving]:
    """Runs the subcommand on a free port. It ends on SIGINT, with the exit code 0 and without an
    error."""
    command = [sys.executable, "-c", PROGRAM, "dashboard", "--no-open", "--port", "0", *options]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Serving(process.stdout.readline().strip(), process)
        except BaseException:
            process.kill()
            raise
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == "Ctrl-C ends the dashboard\n", errors
