"""``initpipeline`` on the command line: it teaches, and it says in one line what is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from initpipeline import __version__
from initpipeline.runtime import logs
from initpipeline.runtime.main import main
from initpipeline.runtime.settings import Settings

OPTIONS = [
    *("--namespace", "--workers", "--sweep-seconds"),
    *("--request-timeout-seconds", "--liveness-endpoint", "--log-format", "--log-level"),
]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run it where there is no cluster, with nothing in the environment but what is given."""
    for name in (name for name in os.environ if name.startswith("INITPIPELINE_")):
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(logs, "configure", lambda *_: None)

    def call(*arguments: str, **environment: str) -> Answer:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        for name in environment:
            monkeypatch.delenv(name)
        return Answer(code, *capsys.readouterr())

    return call


class TestHelp:
    def test_names_the_commands(self, call: Call) -> None:
        answer = call("--help")
        assert (answer.code, answer.err) == (0, "")
        assert "start the operator" in answer.out

    @pytest.fixture
    def run(self, call: Call) -> str:
        answer = call("run", "--help")
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    @pytest.mark.parametrize("option", OPTIONS)
    def test_explains_each_option(self, run: str, option: str) -> None:
        explained = run.split("options:")[1]
        assert option in explained

    def test_covers_all_settings(self) -> None:
        settings = {option.lstrip("-").replace("-", "_") for option in OPTIONS}
        assert settings - {"namespace"} | {"namespaces"} == set(Settings.model_fields)

    @pytest.mark.parametrize("default", ["16", "600", "30", "auto", "info"])
    def test_tells_the_defaults(self, run: str, default: str) -> None:
        assert f"Default: {default}." in " ".join(run.split())

    @pytest.mark.parametrize(
        "words",
        ["examples:", "initpipeline run --namespace", "KUBECONFIG", "INITPIPELINE_SWEEP_SECONDS"],
    )
    def test_teaches_by_example(self, run: str, words: str) -> None:
        assert words in run


def test_version(call: Call) -> None:
    assert call("--version") == Answer(0, f"{__version__}\n", "")


class TestBadInput:
    """Exit code 2, and no log line: nothing was started."""

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            pytest.param((), "COMMAND", id="no command"),
            pytest.param(("fly",), "fly", id="unknown command"),
            pytest.param(("run", "--fast"), "--fast", id="unknown option"),
            pytest.param(("run", "--workers"), "--workers", id="option without its value"),
            pytest.param(("run", "now"), "now", id="surplus word"),
        ],
    )
    def test_usage(self, call: Call, arguments: tuple[str, ...], says: str) -> None:
        answer = call(*arguments)
        assert answer.code == 2
        assert answer.err.startswith("usage:")
        error = answer.err.splitlines()[-1]
        assert "error:" in error
        assert says in error

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--workers", "0"),
            ("--workers", "many"),
            ("--workers", "100000"),
            ("--sweep-seconds", "0"),
            ("--sweep-seconds", "nan"),
            ("--sweep-seconds", "inf"),
            ("--request-timeout-seconds", "-1"),
            ("--request-timeout-seconds", "inf"),
            ("--liveness-endpoint", "8080"),
            ("--liveness-endpoint", "http://0.0.0.0/healthz"),
            ("--liveness-endpoint", "https://0.0.0.0:8080/healthz"),
            ("--log-format", "xml"),
            ("--log-level", "loud"),
            ("--namespace", ""),
            ("--namespace", "team-*"),
            ("--namespace", "!team-a"),
            ("--namespace", "Team_A"),
        ],
    )
    def test_setting(self, call: Call, option: str, value: str) -> None:
        """One line that names the option, its variable, and the value."""
        setting = "namespaces" if option == "--namespace" else option[2:].replace("-", "_")
        for answer in (
            call("run", f"{option}={value}"),
            call("run", **{f"INITPIPELINE_{setting.upper()}": in_environment(setting, value)}),
        ):
            assert answer.code == 2, answer.err
            [line] = answer.err.splitlines()
            assert line.startswith(f"error: {option} (or INITPIPELINE_{setting.upper()}): ")
            assert line.endswith(f", not {value!r}")

    def test_a_list_in_the_environment_that_is_no_json(self, call: Call) -> None:
        answer = call("run", INITPIPELINE_NAMESPACES="a,b")
        assert answer.code == 2
        [line] = answer.err.splitlines()
        assert "namespaces" in line
        assert '["a", "b"]' in line


def in_environment(setting: str, value: str) -> str:
    return f'["{value}"]' if setting == "namespaces" else value


class TestSettings:
    """From the environment, and stronger, from the command line."""

    def test_good_ones_lead_to_the_cluster(self, call: Call) -> None:
        answer = call("run", "-n", "a", "-n", "b", "--workers=2", INITPIPELINE_LOG_LEVEL="debug")
        assert answer.code == 1
        assert "/nonexistent" in answer.err

    def test_the_command_line_wins(self, call: Call) -> None:
        assert call("run", "--workers=2", INITPIPELINE_WORKERS="0").code == 1

    def test_others_of_the_prefix_are_not_ours_to_judge(self, call: Call) -> None:
        assert call("run", INITPIPELINE_CLUSTER_NETWORK="198.18.0.0/22").code == 1


def test_no_cluster_is_one_line() -> None:
    """In a process of its own: whatever is printed on the way counts."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "KUBECONFIG": "/nonexistent"}
    command = [sys.executable, "-m", "initpipeline", "run"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    [line] = answer.stderr.splitlines()
    assert line.startswith("error: no usable cluster configuration (there is no file /nonexistent)")
