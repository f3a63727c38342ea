"""``kubectl initpipeline`` without a cluster: it teaches, and says in one line what is wrong."""

import argparse
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from initpipeline.plugin import main
from initpipeline.plugin.cluster import wait
from initpipeline.plugin.commands import rerun
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.options import EXIT_CODES
from tests.builders import at

COMMANDS = sorted(main.build()[1])
DOCS = (Path(__file__).parents[3] / "docs" / "plugin.md").read_text()


class TestOptions:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["logs", "shop", "migrate", "-n", "a", "-f"],
            ["logs", "shop", "-n", "a", "migrate", "--follow"],
            ["-n", "a", "logs", "-f", "shop", "migrate"],
            ["logs", "-f", "-n=a", "shop", "migrate"],
            ["--namespace=a", "logs", "shop", "-f", "migrate"],
        ],
    )
    def test_may_come_anywhere(self, arguments: list[str]) -> None:
        options = main.parse(arguments)
        assert (options.name, options.step, options.namespace) == ("shop", "migrate", "a")
        assert options.follow

    def test_several_names_around_an_option(self) -> None:
        assert main.parse(["rerun", "a", "--wait", "b", "-n", "x", "c"]).names == ["a", "b", "c"]

    def test_a_namespace_may_be_called_like_a_command(self) -> None:
        options = main.parse(["-n", "status", "history", "shop"])
        assert (options.namespace, options.name) == ("status", "shop")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            pytest.param([], "COMMAND", id="nothing"),
            pytest.param(["fly"], "fly", id="unknown command"),
            pytest.param(["status", "--fast"], "--fast", id="unknown option"),
            pytest.param(["history"], "NAME", id="no name"),
            pytest.param(["rerun"], "NAME", id="no names"),
            pytest.param(["status", "a", "b"], "b", id="surplus word"),
            pytest.param(["history", "a", "-o", "xml"], "xml", id="unknown output"),
            pytest.param(["rerun", "a", "--timeout", "soon"], "soon", id="no time"),
            pytest.param(["logs", "a", "--run", "x"], "x", id="no number"),
        ],
    )
    def test_a_usage_that_is_not_understood(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main.parse(arguments)
        assert ended.value.code == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "error:" in error
        assert says in error


class TestHelp:
    def shown(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main.parse(arguments)
        assert ended.value.code == 0
        return capsys.readouterr().out

    def test_names_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        shown = self.shown(capsys, "--help")
        assert [name for name in COMMANDS if f"\n    {name} " not in shown] == []

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("words", ["examples:\n  kubectl initpipeline {}", "exit codes:\n  0 "])
    def test_teaches(self, command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert words.format(command) in self.shown(capsys, command, "--help")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1m5s", 65), ("0.5s", 0.5)],
)
def test_a_time_as_kubectl_takes_it(text: str, seconds: float) -> None:
    assert wait.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5s", "m", "soon", "5d", "nan"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        wait.parse_duration(text)


def test_tokens_sort_by_time_and_are_never_the_same() -> None:
    earlier, later = (at(0) + timedelta(microseconds=n) for n in (1, 2))
    tokens = [rerun.new_token(earlier), rerun.new_token(later)]
    assert tokens == sorted(tokens)
    assert rerun.new_token(earlier) != rerun.new_token(earlier)


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: whatever is printed or loaded on the way counts."""
    command = [sys.executable, "-c", "import sys; from initpipeline.plugin import main;"]
    command[-1] += "sys.exit(main.main())"
    inherited = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [*command, *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestNoCluster:
    def test_no_kubeconfig(self) -> None:
        answer = run("status", KUBECONFIG="/nonexistent")
        assert (answer.returncode, answer.stdout) == (3, "")
        assert answer.stderr == (
            "error: no kubeconfig: /nonexistent does not exist; set KUBECONFIG or use "
            "--kubeconfig\n"
        )

    def test_nobody_answers(self, tmp_path: Path) -> None:
        config = tmp_path / "config"
        config.write_text(
            "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
            "contexts: [{name: x, context: {cluster: c}}]\n"
            "current-context: x\n"
        )
        answer = run("history", "shop", "--kubeconfig", str(config))
        assert (answer.returncode, answer.stdout) == (3, "")
        assert answer.stderr == (
            "error: no answer from https://127.0.0.1:1: [Errno 111] Connection refused; check that "
            "the cluster is running and the context is the right one: kubectl config get-contexts\n"
        )


def test_the_operator_is_not_loaded() -> None:
    """It takes a second, which a person would wait each time."""
    script = "import sys; import initpipeline.plugin.main; print(*sys.modules)"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert {"kopf", "kubernetes", "initpipeline.runtime"}.isdisjoint(loaded.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_docs_name_each_command(command: str) -> None:
    assert f"`{command} " in DOCS, "docs/plugin.md does not have it"


def test_the_docs_name_each_exit_code() -> None:
    of_plan = main.build()[1]["plan"].epilog or ""
    codes = re.findall(r"^  (\d+) ", EXIT_CODES + of_plan, re.MULTILINE)
    assert [code for code in codes if f"| `{code}` |" not in DOCS] == []
    assert {str(error.code) for error in errors()} <= set(codes)


def errors() -> list[type[PluginError]]:
    return [PluginError, *PluginError.__subclasses__()]


def test_each_subcommand_has_a_handler() -> None:
    parsers = main.build()[1].values()
    assert all(callable(parser.get_default("handler")) for parser in parsers)
    assert all(isinstance(parser, argparse.ArgumentParser) for parser in parsers)
