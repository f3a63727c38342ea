"""Tests that output is safe for any terminal, pipe and encoding."""

import argparse
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import yaml
from rich.text import Text
from rich.tree import Tree

from initpipeline.core.facts import Pipeline
from initpipeline.core.text import is_plain
from initpipeline.plugin import completion, terminal
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.report import chart
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.terminal import SafeConsole
from initpipeline.plugin.views import history, status, svg
from tests.builders import at, fresh_pod, pipeline
from tests.unit.core.simulation import started

EVIL = "\x1b[2J\x1b]8;;http://a\x1b\\x\x9b31m\u202e\x7f\b\r\x07[red]a\udcff"
OWN_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def session(*, tty: bool = True, encoding: str = "utf-8") -> tuple[Session, io.BytesIO, io.BytesIO]:
    """Returns a session, and the bytes that it writes to stdout and stderr."""
    consoles, raw = [], []
    for _ in range(2):
        raw.append(io.BytesIO())
        stream = io.TextIOWrapper(raw[-1], encoding=encoding, errors="replace")
        consoles.append(
            SafeConsole(file=stream, force_terminal=tty, markup=False, highlight=False, width=200)
        )
    made = Session(argparse.Namespace(output="table"), consoles[0], consoles[1], Path())
    return made, raw[0], raw[1]


def shown(made: Session, raw: io.BytesIO) -> str:
    made.out.file.flush()
    made.err.file.flush()
    return raw.getvalue().decode()


def failing() -> Pipeline:
    """Returns a pipeline with control characters in the termination message of its step."""
    pod = (
        fresh_pod()
        .init("one", exit=3, message=EVIL.replace("\udcff", ""))
        .phase("Failed")
        .restarts("Never")
    )
    return started(pod).pipeline.build()


VIEWS = {
    "text": Text(EVIL),
    "string": EVIL,
    "tree": Tree(EVIL),
    "status": status.tree(failing(), at(60)),
    "status of all": status.table([failing()], at(60), namespaces=True, wide=True),
    "history": history.table(failing().status, at(60)),
}


def test_flags_of_a_shown_command_are_quoted_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a b")
    options = argparse.Namespace(context="team a; true", kubeconfig="~/config")
    made = Session(options, session()[0].out, session()[0].err, Path())
    made.__dict__["cluster"] = argparse.Namespace(namespace="default")
    flags = made.flags(Target("x", "demo"))
    assert shlex.split(flags) == (
        ["--kubeconfig", "/home/a b/config", "--context", "team a; true", "-n", "x"]
    )


class TestViews:
    @pytest.mark.parametrize("tty", [True, False], ids=["terminal", "pipe"])
    @pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
    def test_view_with_control_characters_is_plain(self, view: Any, tty: bool) -> None:
        made, out, _ = session(tty=tty)
        made.show(view)
        output = OWN_STYLES.sub("", shown(made, out)) if tty else shown(made, out)
        assert "a" in output
        assert is_plain(output)

    @pytest.mark.parametrize("tty", [True, False], ids=["terminal", "pipe"])
    def test_note_and_error_are_plain_and_one_line(self, tty: bool) -> None:
        made, _, err = session(tty=tty)
        made.note(EVIL)
        assert made.fail(PluginError(f"{EVIL}\nmore")) == 1
        output = OWN_STYLES.sub("", shown(made, err))
        assert is_plain(output)
        assert len(output.splitlines()) == 2
        assert "[red]a" in output, "brackets are text"

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    def test_view_in_another_encoding_has_replacements(self, encoding: str) -> None:
        made, out, _ = session(tty=False, encoding=encoding)
        made.show(Text("日本 é"))
        made.out.file.flush()
        expected = {"ascii": b"?? ?\n", "latin-1": b"?? \xe9\n"}
        assert out.getvalue() == expected.get(encoding, "日本 é\n".encode())


class TestData:
    DATA = {"a": EVIL.replace("\udcff", ""), "日": ["é", "\u2028", ""], "\x1bkey": 1}  # noqa: RUF012

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    @pytest.mark.parametrize(
        ("form", "read"), [(terminal.to_json, json.loads), (terminal.to_yaml, yaml.safe_load)]
    )
    def test_data_is_plain_and_parses_to_itself(self, form: Any, read: Any, encoding: str) -> None:
        text = form(self.DATA, encoding)
        assert is_plain(text)
        assert read(text.encode(encoding).decode(encoding)) == self.DATA

    def test_data_with_half_of_a_surrogate_pair_parses_to_itself(self) -> None:
        assert json.loads(terminal.to_json(["\udcff"], "utf-8").encode()) == ["\udcff"]

    def test_svg_is_well_formed(self) -> None:
        drawn = svg.svg(chart.chart(failing(), at(60)))
        assert Xml.fromstring(drawn).tag.endswith("svg")
        assert is_plain(drawn)

    def test_svg_with_control_characters_in_a_label_is_well_formed(self) -> None:
        made = chart.Chart(EVIL, (), (EVIL,))
        assert is_plain(svg.svg(made))
        assert Xml.fromstring(svg.svg(made)).tag.endswith("svg")


class TestLines:
    def test_note_after_log_without_newline_starts_a_line_on_a_terminal(self) -> None:
        made, out, _ = session()
        made.write(b"no newline")
        made.note("ours")
        made.note("ours")
        assert out.getvalue() == b"no newline\n"

    @pytest.mark.parametrize("log", [b"", b"line\n"])
    def test_note_after_complete_line_adds_no_newline(self, log: bytes) -> None:
        made, out, _ = session()
        made.write(log)
        made.note("ours")
        assert out.getvalue() == log

    def test_pipe_gets_only_the_bytes_of_the_log(self) -> None:
        made, out, _ = session(tty=False)
        made.write(b"\xff\x00no newline\r")
        made.note("ours")
        made.fail(PluginError("ours"))
        assert out.getvalue() == b"\xff\x00no newline\r"


@pytest.mark.parametrize("proposal", ["a\x1b[31m", "a\tb", "a\nb", "a\u202e"])
def test_completion_with_control_characters_is_omitted(proposal: str, tmp_path: Path) -> None:
    names = (proposal, "fine")
    config = {"contexts": [{"name": name, "context": {"cluster": "c"}} for name in names]}
    file = tmp_path / "config"
    file.write_text(json.dumps(config))
    found, _ = completion.complete(["--kubeconfig", str(file), "status", "--context", ""])
    assert found == ["fine"]


class TestProcess:
    """Runs the plugin in a process of its own, since it configures the streams at its start."""

    def run(
        self,
        *arguments: str | bytes,
        stdout: Any = subprocess.PIPE,
        stdin: bytes = b"",
        **env: str,
    ) -> Any:
        command = [sys.executable, "-c", "import sys; from initpipeline.plugin import main;"]
        command[-1] += "sys.exit(main.main())"
        inherited = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
        return subprocess.run(
            [*command, *arguments],
            env={**inherited, **env},
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "ascii:strict"])
    @pytest.mark.parametrize("argument", [b"\xff\xfe.yaml", "é日.yaml".encode(), b"\x1b[31mx"])
    def test_argument_in_another_encoding_is_an_error_of_one_line(
        self, argument: bytes, encoding: str
    ) -> None:
        answer = self.run("wrap", argument, PYTHONIOENCODING=encoding)
        assert answer.returncode == 1
        assert answer.stderr.startswith(b"error: ")
        assert answer.stderr.count(b"\n") == 1
        assert b"\x1b" not in answer.stderr

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
    def test_manifests_in_any_locale_are_utf_8(self, tmp_path: Path, encoding: str) -> None:
        made = pipeline().raw()["spec"]["template"]["spec"]
        made["initContainers"][0]["command"] = ["echo", "é日"]
        file = tmp_path / "pod.yaml"
        file.write_text(
            json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": made})
        )
        answer = self.run("wrap", str(file), PYTHONIOENCODING=encoding)
        assert answer.returncode == 0
        assert "é日" in answer.stdout.decode()
        again = self.run("wrap", "-", stdin=file.read_bytes(), PYTHONIOENCODING=encoding)
        assert again.stdout == answer.stdout

    def test_full_disk_is_an_error_of_one_line(self) -> None:
        manifest = Path(__file__).parents[3] / "manifests" / "examples" / "demo.yaml"
        with Path("/dev/full").open("wb") as full:
            answer = self.run("wrap", str(manifest), "--init-container", "x", stdout=full)
        assert answer.returncode == 1
        assert answer.stderr.count(b"\n") == 1

    def test_closed_pipe_exits_with_0(self, tmp_path: Path) -> None:
        spec = {"initContainers": [{"name": "s"}], "containers": [{"name": "c" * 500_000}]}
        file = tmp_path / "pod.yaml"
        file.write_text(
            json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec})
        )
        reading, writing = os.pipe()
        os.close(reading)
        answer = self.run("wrap", str(file), stdout=writing)
        os.close(writing)
        assert (answer.returncode, answer.stderr) == (0, b"")
