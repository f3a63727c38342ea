"""The operator's command line: its help, and errors of one line."""

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
    *(
        "--request-timeout-seconds",
        "--probe-address",
        "--metrics-address",
        "--log-format",
        "--log-level",
    ),
    *("--lease-namespace", "--lease-name", "--lease-seconds", "--renew-seconds"),
    *("--retry-seconds", "--shards", "--standby", "--identity", "--scheduling-gate"),
    "--log-tails",
]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Returns a function that runs the command line without a cluster, in the given environment."""
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
    def test_help_lists_the_commands(self, call: Call) -> None:
        answer = call("--help")
        assert (answer.code, answer.err) == (0, "")
        assert "start the operator" in answer.out

    @pytest.fixture
    def run(self, call: Call) -> str:
        answer = call("run", "--help")
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    @pytest.mark.parametrize("option", OPTIONS)
    def test_help_of_run_lists_each_option(self, run: str, option: str) -> None:
        explained = run.split("options:")[1]
        assert option in explained

    def test_options_cover_all_settings(self) -> None:
        settings = {option.lstrip("-").replace("-", "_") for option in OPTIONS}
        assert settings - {"namespace"} | {"namespaces"} == set(Settings.model_fields)

    @pytest.mark.parametrize("default", ["128", "600", "30", "auto", "info"])
    def test_help_of_run_states_the_defaults(self, run: str, default: str) -> None:
        assert f"Default: {default}." in " ".join(run.split())

    @pytest.mark.parametrize(
        "text",
        ["examples:", "initpipeline run --namespace", "KUBECONFIG", "INITPIPELINE_SWEEP_SECONDS"],
    )
    def test_help_of_run_has_examples(self, run: str, text: str) -> None:
        assert text in run

    def test_help_of_run_has_one_example_per_line_below_its_comment(self, run: str) -> None:
        lines = run.partition("examples:\n")[2].rstrip().split("\n")
        pairs = list(zip(lines[::3], lines[1::3], strict=True))
        assert len(pairs) == 3
        assert all(comment.startswith("  # ") for comment, _ in pairs)
        assert all(example.count("initpipeline run") == 1 for _, example in pairs)


def test_version_is_printed(call: Call) -> None:
    assert call("--version") == Answer(0, f"{__version__}\n", "")


class TestBadInput:
    """Invalid usage ends with exit code 2 and without a log line."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param((), "COMMAND", id="no command"),
            pytest.param(("fly",), "fly", id="unknown command"),
            pytest.param(("run", "--fast"), "--fast", id="unknown option"),
            pytest.param(("run", "--workers"), "--workers", id="option without its value"),
            pytest.param(("run", "now"), "now", id="surplus argument"),
        ],
    )
    def test_invalid_arguments_print_usage_and_the_error(
        self, call: Call, arguments: tuple[str, ...], message: str
    ) -> None:
        answer = call(*arguments)
        assert answer.code == 2
        assert answer.err.startswith("usage:")
        error = answer.err.splitlines()[-1]
        assert "error:" in error
        assert message in error

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
            ("--lease-name", "Operator"),
            ("--lease-name", "a..b"),
            ("--lease-namespace", "team-*"),
            ("--lease-seconds", "2"),
            ("--retry-seconds", "0"),
            pytest.param("--renew-seconds", "12.6", id="no time for a write"),
            pytest.param("--renew-seconds", "3", id="one renewal only"),
            ("--standby", "hot"),
            ("--identity", "x" * 254),
            ("--probe-address", "8080"),
            ("--probe-address", "0.0.0.0"),
            ("--probe-address", "http://0.0.0.0:8080"),
            ("--log-format", "xml"),
            ("--log-level", "loud"),
            ("--namespace", ""),
            ("--namespace", "team-*"),
            ("--namespace", "!team-a"),
            ("--namespace", "Team_A"),
        ],
    )
    def test_invalid_setting_is_reported_in_one_line(
        self, call: Call, option: str, value: str
    ) -> None:
        """The line has the option, its environment variable, and the value."""
        setting = "namespaces" if option == "--namespace" else option[2:].replace("-", "_")
        for answer in (
            call("run", f"{option}={value}"),
            call("run", **{f"INITPIPELINE_{setting.upper()}": in_environment(setting, value)}),
        ):
            assert answer.code == 2, answer.err
            [line] = answer.err.splitlines()
            assert line.startswith(f"error: {option} (or INITPIPELINE_{setting.upper()}): ")
            assert line.endswith(f", not {value!r}")
            assert line.count(repr(value)) == 1

    @pytest.mark.parametrize(
        ("lease", "retry", "renew"),
        [
            pytest.param("3", "1", "2", id="half a second for a write"),
            pytest.param("12", "2", "10", id="shorter Lease with the default of the others"),
            pytest.param("15", "2", "3.9", id="one renewal only"),
        ],
    )
    def test_periods_without_time_for_a_write_or_a_second_renewal_are_reported(
        self, call: Call, lease: str, retry: str, renew: str
    ) -> None:
        options = ("--lease-seconds", lease, "--retry-seconds", retry, "--renew-seconds", renew)
        answer = call("run", *options)
        assert answer.code == 2
        [line] = answer.err.splitlines()
        assert line.startswith(
            "error: --renew-seconds (or INITPIPELINE_RENEW_SECONDS): must be at least twice "
            f"--retry-seconds ({retry}), and at least 2.5 less than --lease-seconds ({lease})"
        )

    def test_list_in_the_environment_that_is_not_json_is_reported(self, call: Call) -> None:
        answer = call("run", INITPIPELINE_NAMESPACES="a,b")
        assert answer.code == 2
        [line] = answer.err.splitlines()
        assert "namespaces" in line
        assert '["a", "b"]' in line


def in_environment(setting: str, value: str) -> str:
    return f'["{value}"]' if setting == "namespaces" else value


class TestSettings:
    """Settings are read from the environment and the command line, which has precedence."""

    def test_valid_settings_start_the_operator(self, call: Call) -> None:
        answer = call("run", "-n", "a", "-n", "b", "--workers=2", INITPIPELINE_LOG_LEVEL="debug")
        assert answer.code == 1
        assert "/nonexistent" in answer.err

    def test_option_overrides_environment(self, call: Call) -> None:
        assert call("run", "--workers=2", INITPIPELINE_WORKERS="0").code == 1

    def test_unknown_variable_with_the_prefix_is_ignored(self, call: Call) -> None:
        assert call("run", INITPIPELINE_CLUSTER_NETWORK="198.18.0.0/22").code == 1


def test_missing_cluster_is_reported_in_one_line() -> None:
    """Runs in a process of its own, to see all its output."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "KUBECONFIG": "/nonexistent"}
    command = [sys.executable, "-m", "initpipeline", "run"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    [line] = answer.stderr.splitlines()
    assert line.startswith("error: no usable cluster configuration (there is no file /nonexistent)")
