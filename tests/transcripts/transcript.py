"""One documented command, with the API server's responses to it."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import requests
import yaml

from initpipeline.plugin import main
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.commands import explain
from initpipeline.plugin.session import Session

FILE: Final = Path(__file__).parent / "recorded.json"
PROGRAM: Final = "kubectl initpipeline "
WIDTH: Final = 100
"""The width of the charts. A plain pipe has it too."""
CHANGES: Final = re.compile(r"^\d\d:\d\d:\d\d .*\n", re.MULTILINE)
KUBECONFIG: Final = {
    "clusters": [{"name": "recorded", "cluster": {"server": "http://recorded.test"}}],
    "users": [{"name": "recorded", "user": {}}],
    "contexts": [{"name": "recorded", "context": {"cluster": "recorded", "user": "recorded"}}],
    "current-context": "recorded",
}


@dataclass(frozen=True)
class Transcript:
    """A command, and everything that its output depends on."""

    command: str
    """As in the document. A pipe to kubectl, head or grep may follow."""
    now: str
    """The time of the cluster's clock."""
    responses: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Status code and body by method and path. If a request was repeated: the last response."""
    files: dict[str, str] = field(default_factory=dict)
    """The content of the files in the working directory, by name."""
    piped: str = ""
    """The output of kubectl at the end of a pipe."""

    def output(self) -> str:
        """Returns what a terminal shows in the end, from the recorded responses.

        On a terminal a waiting command shows the steps while it waits, instead of a line for each
        change.
        """
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = Path(folder) / "kubeconfig"
            kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
            with (
                in_folder(folder, self.files),
                patch.dict("os.environ", KUBECONFIG=str(kubeconfig), COLUMNS=str(WIDTH)),
                patch.object(requests.Session, "send", self._respond),
                _waits_end_at_once(),
            ):
                out, err = run(self.command, datetime.fromisoformat(self.now))
        return stripped(CHANGES.sub("", err) + self._after_pipe(out))

    def _respond(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        recorded = self.responses[key_of(request)]
        response = requests.Response()
        response.status_code = recorded["code"]
        response.raw = io.BytesIO(json.dumps(recorded["body"]).encode())
        response.request, response.url = request, str(request.url)
        return response

    def _after_pipe(self, out: str) -> str:
        _, _, last = self.command.partition(" | ")
        if not last:
            return out
        if last.startswith("kubectl"):
            return self.piped
        filtered = subprocess.run(
            shlex.split(last), input=out, capture_output=True, text=True, check=True
        )
        return filtered.stdout


def run(command: str, now: datetime) -> tuple[str, str]:
    """Runs the plugin's part of a command at this time. Returns stdout and stderr."""
    own = command.partition(" | ")[0]
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(ClusterClient, "now", lambda _: now),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        main.main(shlex.split(own.removeprefix(PROGRAM)))
    return out.getvalue(), err.getvalue()


def key_of(request: requests.PreparedRequest) -> str:
    """Returns the method and the path of a request."""
    return f"{request.method} {request.path_url}"


@contextlib.contextmanager
def in_folder(folder: str, files: dict[str, str]) -> Iterator[None]:
    """Changes the working directory to this folder, and writes these files into it."""
    for name, text in files.items():
        (Path(folder) / name).write_text(text)
    with contextlib.chdir(folder):
        yield


def stripped(text: str) -> str:
    """Returns the text without the padding of tables."""
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())


def load() -> list[Transcript]:
    """Returns the recorded transcripts."""
    return [Transcript(**one) for one in json.loads(FILE.read_text())]


def save(transcripts: Sequence[Transcript]) -> None:
    """Writes the recorded transcripts, one field or response a line."""
    items = ",\n".join(map(_text, transcripts))
    FILE.write_text(f"[\n{items}\n]\n")


def _text(transcript: Transcript) -> str:
    fields = asdict(transcript)
    responses = fields.pop("responses")
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
    answers = [f"  {json.dumps(key)}: {json.dumps(one)}" for key, one in responses.items()]
    nested = ",\n".join(answers)
    return "{\n" + ",\n".join([*lines, ' "responses": {\n' + nested + "\n }"]) + "\n}"


@contextlib.contextmanager
def _waits_end_at_once() -> Iterator[None]:
    """Lets the time of a wait pass without waiting."""
    passed = 0.0

    def pause(_: Session, seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monotonic: Callable[[], float] = lambda: passed  # noqa: E731
    clock = SimpleNamespace(**{**vars(time), "monotonic": monotonic})
    with patch.object(explain, "time", clock), patch.object(Session, "pause", pause):
        yield
