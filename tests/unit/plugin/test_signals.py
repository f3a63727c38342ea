"""The plugin as a process that a signal ends while it waits for the API server."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.poll import poll_until

SECONDS: Final = 30.0


@dataclass(frozen=True)
class Command:
    """A program of the plugin."""

    module: str
    arguments: list[str]
    key_file: str
    """The pattern of the file with the private key that exists while it waits."""
    after_sigterm: int
    """Its exit code. Only a signal ends the dashboard, so that is a success."""
    after_sighup: int


COMMANDS: Final = {
    "status": Command("main", ["status"], "*/client-key", 143, 129),
    "dashboard": Command("main", ["dashboard", "--no-open", "--port=0"], "*/0/client-key", 0, 0),
    "completion": Command("completion", ["status", ""], "*/client-key", 143, 129),
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Yields a kubeconfig with a private key. Its API server accepts connections, and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        data = base64.b64encode(b"secret").decode()
        user = {"client-certificate-data": data, "client-key-data": data}
        file = tmp_path / "kubeconfig"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(json.dumps(config))
        yield file


@contextmanager
def waiting(
    kubeconfig: Path, command: Command, sighup: signal.Handlers = signal.SIG_DFL
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Yields the process, when the private key is in a file, and its directory for such files. The
    process inherits ``sighup``, SIG_DFL or SIG_IGN."""
    directory = kubeconfig.parent / "tmp"
    directory.mkdir()
    module = command.module
    code = f"import sys; from initpipeline.plugin import {module}; sys.exit({module}.main())"
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "TMPDIR": str(directory)}
    program = [sys.executable, "-c", code, *command.arguments]
    with subprocess.Popen(
        program,
        env=env,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, sighup),
    ) as process:
        try:
            poll_until(lambda: list(directory.glob(command.key_file)), SECONDS, "there is a key")
            yield process, directory
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("name", COMMANDS)
def test_process_ended_by_a_signal_leaves_no_private_key(
    kubeconfig: Path, name: str, number: signal.Signals
) -> None:
    command = COMMANDS[name]
    with waiting(kubeconfig, command) as (process, directory):
        process.send_signal(number)
        code = command.after_sighup if number is signal.SIGHUP else command.after_sigterm
        assert process.wait(SECONDS) == code
        assert list(directory.iterdir()) == []


@pytest.mark.parametrize("name", ["status", "completion"])
def test_process_started_by_nohup_continues_after_its_terminal_is_closed(
    kubeconfig: Path, name: str
) -> None:
    """Of two pending signals, the process would handle SIGHUP first."""
    with waiting(kubeconfig, COMMANDS[name], signal.SIG_IGN) as (process, _):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == COMMANDS[name].after_sigterm
