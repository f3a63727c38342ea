"""Tests ``kubectl initpipeline`` without a cluster: options, help and errors."""

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
from initpipeline.plugin.options import exit_codes
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
    def test_options_anywhere_are_parsed(self, arguments: list[str]) -> None:
        options = main.parse(arguments)
        assert (options.name, options.step, options.namespace) == ("shop", "migrate", "a")
        assert options.follow

    def test_names_around_options_are_collected(self) -> None:
        assert main.parse(["rerun", "a", "--wait", "b", "-n", "x", "c"]).names == ["a", "b", "c"]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_usage_of_a_command_starts_with_its_command_line(self, command: str) -> None:
        usage = main.build()[1][command].format_usage()
        assert usage.startswith(f"usage: kubectl initpipeline {command} [-h]")

    def test_namespace_named_like_a_command_is_a_namespace(self) -> None:
        options = main.parse(["-n", "status", "history", "shop"])
        assert (options.namespace, options.name) == ("status", "shop")

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            pytest.param([], "COMMAND", id="nothing"),
            pytest.param(["fly"], "fly", id="unknown command"),
            pytest.param(["status", "--fast"], "--fast", id="unknown option"),
            pytest.param(["history"], "NAME", id="no name"),
            pytest.param(["rerun"], "NAME", id="no names"),
            pytest.param(["status", "a", "b"], "b", id="extra argument"),
            pytest.param(["history", "a", "-o", "xml"], "xml", id="unknown output"),
            pytest.param(["rerun", "a", "--timeout", "soon"], "soon", id="not a duration"),
            pytest.param(["plan", "-f", "a", "-A"], "-A", id="plan of all namespaces"),
            pytest.param(["wrap", "a", "-A"], "-A", id="wrap of all namespaces"),
            pytest.param(["logs", "a", "--run", "x"], "x", id="not a number"),
        ],
    )
    def test_invalid_usage_exits_with_2(
        self, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main.parse(arguments)
        assert ended.value.code == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "error:" in error
        assert part in error


class TestHelp:
    def shown(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main.parse(arguments)
        assert ended.value.code == 0
        return capsys.readouterr().out

    def test_help_lists_all_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        shown = self.shown(capsys, "--help")
        assert [name for name in COMMANDS if f"\n    {name} " not in shown] == []

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize(
        "pattern", ["examples:\n  # .*\n  kubectl initpipeline {}", "exit codes:\n  0 "]
    )
    def test_help_of_command_has_examples_and_exit_codes(
        self, command: str, pattern: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert re.search(pattern.format(command), self.shown(capsys, command, "--help"))

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_of_command_has_cluster_options_if_it_connects(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown = self.shown(capsys, command, "--help")
        assert ("--context" in shown) is (command != "wrap")
        assert ("--kubeconfig" in shown) is (command != "wrap")

    def test_wrap_accepts_the_cluster_options_that_an_alias_sets(self) -> None:
        options = main.parse(["wrap", "--context", "c", "--kubeconfig", "f", "job.yaml"])
        assert options.file == "job.yaml"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1m5s", 65), ("0.5s", 0.5)],
)
def test_duration_of_kubectl_is_parsed(text: str, seconds: float) -> None:
    assert wait.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5s", "m", "soon", "5d", "nan"])
def test_duration_invalid_raises(text: str) -> None:
    with pytest.raises(ValueError):
        wait.parse_duration(text)


def test_new_token_is_unique_and_sorts_by_time() -> None:
    earlier, later = (at(0) + timedelta(microseconds=n) for n in (1, 2))
    tokens = [rerun.new_token(earlier), rerun.new_token(later)]
    assert tokens == sorted(tokens)
    assert rerun.new_token(earlier) != rerun.new_token(earlier)


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the plugin in a process of its own, with all that it loads and prints."""
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
    def test_missing_kubeconfig_is_an_error(self) -> None:
        answer = run("status", KUBECONFIG="/nonexistent")
        assert (answer.returncode, answer.stdout) == (3, "")
        assert answer.stderr == (
            "error: no kubeconfig found: /nonexistent; set KUBECONFIG or use --kubeconfig\n"
        )

    def test_unreachable_server_is_an_error(self, tmp_path: Path) -> None:
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


def test_plugin_does_not_load_the_operator() -> None:
    """Loading the operator takes a second."""
    script = "import sys; import initpipeline.plugin.main; print(*sys.modules)"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert {"kopf", "kubernetes", "initpipeline.runtime"}.isdisjoint(loaded.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_docs_have_each_command(command: str) -> None:
    assert f"`{command} " in DOCS, "docs/plugin.md does not have it"


def test_docs_have_each_exit_code() -> None:
    of_plan = main.build()[1]["plan"].epilog or ""
    codes = re.findall(r"^  (\d+) ", exit_codes("", times_out=True) + of_plan, re.MULTILINE)
    assert [code for code in codes if f"| `{code}` |" not in DOCS] == []
    assert {str(error.code) for error in errors()} <= set(codes)


def errors() -> list[type[PluginError]]:
    return [PluginError, *PluginError.__subclasses__()]


def test_subcommand_has_a_handler() -> None:
    parsers = main.build()[1].values()
    assert all(callable(parser.get_default("handler")) for parser in parsers)
    assert all(isinstance(parser, argparse.ArgumentParser) for parser in parsers)
